-- put_unit: the newest reading of a usage unit.
insert into unit (project_id, trace_id, unit_id, cost_usd, duration_s, tokens, model, problem, read_at_us)
values (:project_id, :trace_id, :unit_id, :cost_usd, :duration_s, :tokens, :model, :problem, :now_us)
on conflict (project_id, trace_id, unit_id) do update
   set cost_usd = excluded.cost_usd, duration_s = excluded.duration_s, tokens = excluded.tokens, model = excluded.model,
       problem = excluded.problem, read_at_us = excluded.read_at_us
