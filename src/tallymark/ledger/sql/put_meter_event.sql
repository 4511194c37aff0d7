-- put_meter_event: fix a meter event: its value, identifier, timestamp and payload never change again.
insert into meter_event (meter_event_id, customer_id, meter, bucket_start_us, bucket_end_us, bucket_key, revision, timestamp_s,
                         credits, entries_micros, carry_before_micros, carry_after_micros, payload, state, reason,
                         attempt, next_attempt_at_us, created_at_us, run_id)
values (:meter_event_id, :customer_id, :meter, :bucket_start_us, :bucket_end_us, :bucket_key, :revision, :timestamp_s,
        :credits, :entries_micros, :carry_before_micros, :carry_after_micros, :payload, :state, :reason, 0, 0, :now_us, :run_id)
