-- covered_by: what each trace put into a meter event, with how many lines it has on that meter. A trace that was taken out
-- again is left out.
select c.project_id, c.trace_id, c.meter, c.customer_id, c.bucket_start_us, c.bucket_end_us, c.bucket_key,
       c.amount_micros, c.timestamp_us, c.card_digest,
       (select count(*) from entry as e
         where e.project_id = c.project_id and e.trace_id = c.trace_id and e.meter = c.meter) as entries
  from (select project_id, trace_id, meter, customer_id, bucket_start_us, bucket_end_us, bucket_key,
               cast(sum(amount_micros) as bigint) as amount_micros, max(timestamp_us) as timestamp_us,
               max(card_digest) as card_digest
          from entry
         where meter_event_id = :meter_event_id
         group by project_id, trace_id, meter, customer_id, bucket_start_us, bucket_end_us, bucket_key) as c
 where c.amount_micros <> 0
 order by c.project_id, c.trace_id
