-- confirm: a window's value shows that a meter event, accepted, was counted: no report can speak of it.
update meter_event set reason = 'counted' where meter_event_id = :meter_event_id and state = 'accepted'
