-- find_trace: a trace by its id, in every project that was read.
select t.*
  from trace as t
 where t.trace_id = :trace_id and t.project_id in (select value from fact where name like 'project %')
 order by t.project_id
