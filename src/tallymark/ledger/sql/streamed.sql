-- streamed: hours in which meter events lie that were streamed and may be asked about, those that have waited longest first.
select customer_id, meter, timestamp_s - timestamp_s % 3600 as hour_s
  from meter_event
 where state = 'streamed' and next_attempt_at_us <= :now_us
 group by customer_id, meter, timestamp_s - timestamp_s % 3600
 order by min(next_attempt_at_us), customer_id, meter, hour_s
 limit :limit
