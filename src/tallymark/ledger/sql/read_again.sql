-- read_again: let the next sync read a held trace again and decide it anew.
update trace set decision_digest = '' where project_id = :project_id and trace_id = :trace_id and outcome = 'held'
