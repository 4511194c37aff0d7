-- leave_open: a window's value allows several answers for a meter event; when it may be asked again.
update meter_event
   set next_attempt_at_us = :again_at_us, answer = case when state in ('in_doubt', 'streamed') then :answer else answer end
 where meter_event_id = :meter_event_id and state in ('in_doubt', 'streamed', 'accepted')
