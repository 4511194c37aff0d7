-- counted_in_window: what meter events of a window come to that are accepted, and the latest time of one; 0 if there is none.
-- A bucket is at most a day long, and begins at most a day after the time that its meter event is dated.
select cast(coalesce(sum(credits), 0) as bigint) as credits, coalesce(max(timestamp_s), 0) as timestamp_s
  from meter_event
 where customer_id = :customer_id and meter = :meter
   and bucket_start_us >= :buckets_from_us and bucket_start_us < :buckets_to_us
   and timestamp_s >= :start_s and timestamp_s < :end_s and state = 'accepted'
