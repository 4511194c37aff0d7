-- held_trace: what a trace that may be held stands at.
select project_id, trace_id, outcome, reason, customer_id, worth_micros, billed_micros
  from trace
 where project_id = :project_id and trace_id = :trace_id
