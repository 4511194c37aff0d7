-- staged: readings of a batch of traces that are not decided yet, named by a JSON list of [project_id, trace_id].
select r.*
  from jsonb_array_elements(cast(:keys as jsonb)) as k
  join reading as r on r.project_id = k.value ->> 0 and r.trace_id = k.value ->> 1
 where r.staged_by = :staged_by
