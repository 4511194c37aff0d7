-- export_meter_events: meter events whose time lies in a range, by customer, meter and bucket.
select meter_event_id, customer_id, meter, bucket_start_us, bucket_end_us, bucket_key, revision,
       timestamp_s * 1000000 as timestamp_us, credits, entries_micros, carry_before_micros, carry_after_micros, payload, state,
       reason, attempt, reissue, unanswered_since_us, answered_at_us, answer, reported_at_us, released_by, created_at_us, run_id
  from meter_event
 where timestamp_s * 1000000 >= :from_us and timestamp_s * 1000000 < :until_us
 order by customer_id, meter, bucket_start_us, meter_event_id
