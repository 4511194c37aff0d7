-- meter_events_in_state: meter events in a state that few are in, and that meet all that is asked, the newest first.
select meter_event_id, customer_id, meter, bucket_start_us, bucket_end_us, bucket_key, timestamp_s, credits,
       entries_micros, carry_before_micros, carry_after_micros, state, reason, attempt, reissue, created_at_us, answered_at_us
  from meter_event
 where state = :state
   and bucket_start_us >= :from_us and bucket_start_us < :to_us
   and (:customer_id = '' or customer_id = :customer_id) and (:meter = '' or meter = :meter)
   and (bucket_start_us, meter_event_id) < (:before_us, :before_id)
 order by bucket_start_us desc, meter_event_id desc
 limit :limit
