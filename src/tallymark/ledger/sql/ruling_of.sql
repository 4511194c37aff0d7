-- ruling_of: a person's word on one trace.
select verb, customer_id, dated_at_us, decision_id from ruling where project_id = :project_id and trace_id = :trace_id
