-- append_entry: one line of the ledger. The unique key refuses a second charge for the same trace and meter.
insert into entry (entry_id, project_id, trace_id, meter, sequence, kind, customer_id, amount_micros, timestamp_us,
                   bucket_start_us, bucket_end_us, bucket_key, card_digest, components, run_id, created_at_us, meter_event_id,
                   decision_id, digest)
values (:entry_id, :project_id, :trace_id, :meter, :sequence, :kind, :customer_id, :amount_micros, :timestamp_us,
        :bucket_start_us, :bucket_end_us, :bucket_key, :card_digest, :components, :run_id, :now_us, :meter_event_id,
        :decision_id, :digest)
