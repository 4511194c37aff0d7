-- open_buckets: buckets with entries that no meter event covers yet, oldest first within a customer and meter.
select customer_id, meter, bucket_start_us, bucket_end_us, bucket_key,
       cast(sum(amount_micros) as bigint) as entries_micros, min(amount_micros) as lowest_micros,
       max(timestamp_us) as timestamp_us
  from entry
 where meter_event_id is null
 group by customer_id, meter, bucket_start_us, bucket_end_us, bucket_key
 order by customer_id, meter, bucket_start_us, bucket_key
 limit :limit
