-- readings: what one reader staged of a project and is not decided yet, in order of trace ids, with the mark by score.
select r.*, s.trace_id as scored
  from reading as r
  left join score_mark as s on s.project_id = r.project_id and s.trace_id = r.trace_id
 where r.project_id = :project_id and r.trace_id > :after_trace_id and r.staged_by = :staged_by
 order by r.trace_id
 limit :limit
