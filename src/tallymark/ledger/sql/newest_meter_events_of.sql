-- newest_meter_events_of: the last meter events of a customer, by the time of their buckets.
select meter_event_id, meter, bucket_start_us, bucket_end_us, credits, entries_micros, carry_before_micros, carry_after_micros,
       state, reason
  from meter_event
 where customer_id = :customer_id
 order by bucket_start_us desc, meter, meter_event_id
 limit :limit
