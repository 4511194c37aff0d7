-- export_entries: entries whose usage lies in a range of time, in the order of their numbers.
select entry_id, project_id, trace_id, meter, sequence, kind, customer_id, amount_micros, timestamp_us, bucket_start_us,
       bucket_end_us, bucket_key, card_digest, components, run_id, created_at_us, meter_event_id, decision_id, digest
  from entry
 where timestamp_us >= :from_us and timestamp_us < :until_us
 order by entry_id
