-- fail_run: a run of the service ended before it was done.
update run set finished_at_us = :now_us, problem = :problem where run_id = :run_id and finished_at_us is null
