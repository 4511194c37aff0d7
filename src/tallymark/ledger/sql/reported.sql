-- reported: meter events that Stripe took and then did not count, and whose cause may be mended by now.
select meter_event_id, customer_id, meter, credits, reason, reissue, reported_at_us
  from meter_event
 where state = 'rejected' and reported_at_us is not null and next_attempt_at_us <= :now_us
 order by next_attempt_at_us, customer_id, meter, timestamp_s
 limit :limit
