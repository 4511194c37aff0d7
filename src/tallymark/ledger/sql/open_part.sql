-- open_part: what the open entries of one bucket come to that lie in a part of it; no row if there are none.
select cast(sum(amount_micros) as bigint) as entries_micros, min(amount_micros) as lowest_micros,
       max(timestamp_us) as timestamp_us
  from entry
 where meter_event_id is null and customer_id = :customer_id and meter = :meter and bucket_start_us = :bucket_start_us
   and bucket_end_us = :bucket_end_us and bucket_key = :bucket_key
   and timestamp_us >= :part_start_us and timestamp_us < :part_end_us
group by customer_id
