-- under_way_in_window: how many meter events of a window Stripe counts, or may come to count without a person's word.
-- A bucket is at most a day long, and begins at most a day after the time that its meter event is dated.
select count(*) as meter_events
  from meter_event
 where customer_id = :customer_id and meter = :meter
   and bucket_start_us >= :buckets_from_us and bucket_start_us < :buckets_to_us
   and timestamp_s >= :start_s and timestamp_s < :end_s and state not in ('carried', 'cancelled', 'held')
