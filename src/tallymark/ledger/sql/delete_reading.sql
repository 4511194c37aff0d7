-- delete_reading: a reading is decided.
delete from reading where project_id = :project_id and trace_id = :trace_id and staged_by = :staged_by
