-- cover_entries: say which meter event covers the open entries of a bucket, or of a part of it. Set once; a trigger refuses
-- a second time.
update entry
   set meter_event_id = :meter_event_id
 where meter_event_id is null and customer_id = :customer_id and meter = :meter and bucket_start_us = :bucket_start_us
   and bucket_end_us = :bucket_end_us and bucket_key = :bucket_key
   and timestamp_us >= :part_start_us and timestamp_us < :part_end_us
