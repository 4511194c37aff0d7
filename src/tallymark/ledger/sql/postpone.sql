-- postpone: the cause of a reported meter event is not mended; when to look again.
update meter_event
   set next_attempt_at_us = :again_at_us
 where meter_event_id = :meter_event_id and state = 'rejected' and reported_at_us is not null
