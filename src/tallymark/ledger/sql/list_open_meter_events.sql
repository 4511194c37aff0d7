-- list_open_meter_events: meter events that are not settled.
select meter_event_id, customer_id, meter, bucket_start_us, credits, state, reason, attempt, answer, created_at_us
  from meter_event
 where state in ('pending', 'sending', 'cancelling', 'rejected', 'in_doubt', 'held')
 order by state, bucket_start_us
 limit :limit
