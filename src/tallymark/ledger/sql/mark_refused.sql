-- mark_refused: stays owed, so that the next run writes it again.
update trace set mark_problem = :problem where project_id = :project_id and trace_id = :trace_id and mark_state = 'owed'
