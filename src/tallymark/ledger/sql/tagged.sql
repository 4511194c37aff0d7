-- tagged: a trace now carries billing:pending.
update trace set tags = '["billing:pending"]' where project_id = :project_id and trace_id = :trace_id
