-- meter_events_of_day: meter events of a customer and a meter that are dated in a span; their buckets begin at most a day before,
-- or after.
select meter_event_id, meter, bucket_start_us, bucket_end_us, credits, entries_micros, carry_before_micros, carry_after_micros,
       state, reason
  from meter_event
 where customer_id = :customer_id and meter = :meter and bucket_start_us >= :from_us - 86400000000
   and bucket_start_us < :to_us + 86400000000
   and timestamp_s >= :from_s and timestamp_s < :to_s
 order by bucket_start_us, meter_event_id
 limit :limit
