-- hand_over_run: a run is done by workers, whichever there are: no process whose end would be its own.
update run set owner = '||' where run_id = :run_id
