insert into run (run_id, verb, started_at_us, asked_by, owner) values (:run_id, :verb, :now_us, :asked_by, :owner)
