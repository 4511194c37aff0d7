-- all_entries: every entry as it was appended, in the order of its number.
select entry_id, project_id, trace_id, meter, sequence, kind, customer_id, amount_micros, timestamp_us, bucket_start_us,
       bucket_end_us, bucket_key, card_digest, components, run_id, created_at_us, meter_event_id, decision_id, digest
  from entry
 order by entry_id
