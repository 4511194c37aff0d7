-- units_of: the newest reading of each observation of a trace.
select unit_id, cost_usd, tokens, model, problem, start_us, end_us
  from unit
 where project_id = :project_id and trace_id = :trace_id
 order by unit_id
