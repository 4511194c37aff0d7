-- close_reconciles: reconciliations that began after a moment and ended, the newest first.
select finished_at_us, summary
  from run
 where verb = 'reconcile' and started_at_us >= :since_us and finished_at_us is not null
 order by started_at_us desc
