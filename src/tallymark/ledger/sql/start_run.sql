insert into run (run_id, verb, started_at_us) values (:run_id, :verb, :now_us)
