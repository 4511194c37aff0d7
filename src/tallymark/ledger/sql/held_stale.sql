-- held_stale: held traces of a project that were decided under other settings than today's.
select trace_id
  from trace
 where outcome = 'held' and project_id = :project_id and decision_digest <> :decision_digest and last_run_id <> :run_id
   and trace_id > :after_trace_id
 order by trace_id
 limit :limit
