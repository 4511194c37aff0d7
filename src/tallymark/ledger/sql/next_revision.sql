-- next_revision: how often this bucket was gathered before.
select count(*) as revision from meter_event
 where customer_id = :customer_id and meter = :meter and bucket_start_us = :bucket_start_us
   and bucket_end_us = :bucket_end_us and bucket_key = :bucket_key
