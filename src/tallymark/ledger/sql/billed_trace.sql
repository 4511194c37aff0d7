-- billed_trace: a billed trace that may be gone, for its adjustment.
select timestamp_us, customer_id, billed_micros, reason
  from trace
 where project_id = :project_id and trace_id = :trace_id and outcome = 'billed'
