-- meter_event: one meter event.
select * from meter_event where meter_event_id = :meter_event_id
