update run set finished_at_us = :now_us, summary = :summary where run_id = :run_id
