-- delete_whole_unit: the whole trace as one unit gives way to its observations.
delete from unit where project_id = :project_id and trace_id = :trace_id and unit_id = ''
