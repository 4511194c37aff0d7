-- A claim looks at the next customers and meters only, however much waits: one claim after the other took time that grew
-- with all that was pending.
drop index meter_event_by_state;
create index meter_event_by_state on meter_event (state, customer_id, meter, bucket_start_us, revision, meter_event_id);
create index meter_event_by_age on meter_event (state, timestamp_s);
create index meter_event_unanswered on meter_event (unanswered_since_us) where unanswered_since_us is not null;
