select sent_at_us from attempt where meter_event_id = :meter_event_id and attempt = :attempt
