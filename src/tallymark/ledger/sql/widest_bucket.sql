-- widest_bucket: the widest bucket of a range, which says whether hours can be compared.
select coalesce(max(bucket_end_us - bucket_start_us), 0) as width_us
  from meter_event
 where timestamp_s >= :from_s and timestamp_s < :to_s
