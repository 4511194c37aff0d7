-- meter_events_between: the meter events of a range, by customer and meter, and those whose usage may lie in it: a bucket begins
-- at most a day after the time that its meter event is dated.
select meter_event_id, customer_id, meter, timestamp_s, bucket_start_us, bucket_end_us, credits, carry_before_micros,
       carry_after_micros, state, reason, attempt, unanswered_since_us, answered_at_us, reported_at_us
  from meter_event
 where timestamp_s >= :from_s - 86400 and timestamp_s < :to_s and run_id <> :run_id
 order by customer_id, meter, timestamp_s
