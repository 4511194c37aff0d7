-- put_ruling: a person's word on a trace. What an earlier one said of its customer or its date holds where this one is silent.
insert into ruling (project_id, trace_id, verb, customer_id, dated_at_us, decision_id)
values (:project_id, :trace_id, :verb, :customer_id, :dated_at_us, :decision_id)
on conflict (project_id, trace_id) do update
   set verb = excluded.verb, customer_id = coalesce(excluded.customer_id, ruling.customer_id),
       dated_at_us = coalesce(excluded.dated_at_us, ruling.dated_at_us), decision_id = excluded.decision_id
