-- billed_among: which of a batch of traces are billed; named by a JSON list of [project_id, trace_id].
select t.project_id, t.trace_id
  from jsonb_array_elements(cast(:keys as jsonb)) as k
  join trace as t on t.project_id = k.value ->> 0 and t.trace_id = k.value ->> 1
 where t.outcome = 'billed'
