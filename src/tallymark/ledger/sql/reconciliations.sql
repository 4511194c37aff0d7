-- reconciliations: those that ended, the newest first, before a place.
select run_id, started_at_us, finished_at_us, summary
  from run
 where verb = 'reconcile' and summary is not null and (started_at_us, run_id) < (:before_us, :before_id)
 order by started_at_us desc, run_id desc
 limit :limit
