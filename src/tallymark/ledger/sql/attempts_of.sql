select * from attempt where meter_event_id = :meter_event_id order by attempt
