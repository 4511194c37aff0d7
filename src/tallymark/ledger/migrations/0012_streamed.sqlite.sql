-- Meter events that Stripe's stream has received, until a sum shows that they are counted.

create index meter_event_streamed on meter_event (next_attempt_at_us) where state = 'streamed';
