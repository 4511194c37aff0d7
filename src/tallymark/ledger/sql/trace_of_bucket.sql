-- trace_of_bucket: the trace behind a trace bucket, for the meter event's payload.
select t.project_id, t.trace_id, t.user_id, t.components
  from entry as e
  join trace as t on t.project_id = e.project_id and t.trace_id = e.trace_id
 where e.meter_event_id is null and e.customer_id = :customer_id and e.meter = :meter
   and e.bucket_start_us = :bucket_start_us and e.bucket_end_us = :bucket_end_us and e.bucket_key = :bucket_key
 order by e.entry_id desc
 limit 1
