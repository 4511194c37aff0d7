-- put_unit: the newest reading of a usage unit; an older version of it changes nothing.
insert into unit (project_id, trace_id, unit_id, cost_usd, tokens, model, problem, start_us, end_us,
                  updated_at_us, read_at_us)
values (:project_id, :trace_id, :unit_id, :cost_usd, :tokens, :model, :problem, :start_us, :end_us,
        :updated_at_us, :now_us)
on conflict (project_id, trace_id, unit_id) do update
   set cost_usd = excluded.cost_usd, tokens = excluded.tokens, model = excluded.model,
       problem = excluded.problem, start_us = excluded.start_us, end_us = excluded.end_us,
       updated_at_us = excluded.updated_at_us, read_at_us = excluded.read_at_us
 where excluded.updated_at_us >= unit.updated_at_us
