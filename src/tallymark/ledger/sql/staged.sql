-- staged: readings of a batch of traces that are not decided yet, named by a JSON list of [project_id, trace_id].
select r.*
  from json_each(:keys) as k
  join reading as r on r.project_id = json_extract(k.value, '$[0]') and r.trace_id = json_extract(k.value, '$[1]')
 where r.staged_by = :staged_by
