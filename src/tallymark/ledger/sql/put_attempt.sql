-- put_attempt: note a send before it leaves; of a meter that is sent running totals, also what total.
insert into attempt (meter_event_id, attempt, idempotency_key, sent_at_us, window_total)
values (:meter_event_id, :attempt, :idempotency_key, :now_us, :window_total)
