-- observation_units: every known observation of a batch of traces, named by a JSON list of [project_id, trace_id].
select u.project_id, u.trace_id, u.unit_id, u.cost_usd, u.tokens, u.model, u.problem, u.start_us, u.end_us, u.updated_at_us
  from jsonb_array_elements(cast(:keys as jsonb)) as k
  join unit as u on u.project_id = k.value ->> 0 and u.trace_id = k.value ->> 1
