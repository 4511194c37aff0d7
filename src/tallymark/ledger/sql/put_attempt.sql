-- put_attempt: note a send before it leaves.
insert into attempt (meter_event_id, attempt, idempotency_key, sent_at_us)
values (:meter_event_id, :attempt, :idempotency_key, :now_us)
