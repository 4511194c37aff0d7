delete from run_progress where run_id = :run_id
