-- mark_batches: the last trace of each full batch of a project's traces that are owed marks, in order of their ids.
select trace_id
  from (select trace_id, row_number() over (order by trace_id) as place
          from trace
         where mark_state = 'owed' and project_id = :project_id) as owed
 where place % :size = 0
 order by trace_id
