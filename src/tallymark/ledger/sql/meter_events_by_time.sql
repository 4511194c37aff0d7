-- meter_events_by_time: meter events that meet all that is asked, the newest usage first; for when most do.
select meter_event_id, customer_id, meter, bucket_start_us, bucket_end_us, bucket_key, timestamp_s, credits,
       entries_micros, carry_before_micros, carry_after_micros, state, reason, attempt, reissue, created_at_us, answered_at_us
  from meter_event
 where bucket_start_us >= :from_us and bucket_start_us < :to_us
   and (:state = '' or state = :state) and (:customer_id = '' or customer_id = :customer_id)
   and (:meter = '' or meter = :meter)
   and (bucket_start_us, meter_event_id) < (:before_us, :before_id)
 order by bucket_start_us desc, meter_event_id desc
 limit :limit
