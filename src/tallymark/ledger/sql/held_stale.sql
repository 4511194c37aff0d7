-- held_stale: held traces of a project that were decided under other settings than today's.
select trace_id
  from trace
 where outcome = 'held' and decision_digest <> :decision_digest and last_run_id <> :run_id
   and (project_id, trace_id) > (:project_id, :after_trace_id) and project_id <= :project_id
 order by project_id, trace_id
 limit :limit
