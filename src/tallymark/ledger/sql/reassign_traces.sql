-- reassign_traces: traces of a meter event are another customer's, by a decision.
update trace
   set customer_id = :customer_id, found_by = 'decision'
 where (project_id, trace_id) in (select project_id, trace_id from entry where meter_event_id = :meter_event_id)
