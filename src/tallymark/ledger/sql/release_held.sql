-- release_held: a held meter event is sent all the same, by a decision.
update meter_event
   set state = 'pending', reason = '', released_by = :released_by, next_attempt_at_us = 0
 where meter_event_id = :meter_event_id and state = 'held'
