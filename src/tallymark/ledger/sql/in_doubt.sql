-- in_doubt: where meter events in doubt lie whose window may be asked about, those that have waited longest first.
select customer_id, meter, timestamp_s
  from meter_event
 where state = 'in_doubt' and next_attempt_at_us <= :now_us
 order by next_attempt_at_us, customer_id, meter, timestamp_s
 limit :limit
