-- reconciliation: one that ended.
select run_id, started_at_us, finished_at_us, summary
  from run
 where run_id = :run_id and verb = 'reconcile' and summary is not null
