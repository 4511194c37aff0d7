-- newest_time: the latest moment that a run began or ended.
select max(at_us) as at_us
  from (select max(started_at_us) as at_us from run
         union all
        select max(finished_at_us) as at_us from run) as moments
