-- set_state: a meter event that nobody is sending goes to another state, and why.
update meter_event
   set state = :state, reason = :reason, claimed_by = null, claimed_until_us = null
 where meter_event_id = :meter_event_id and state <> 'sending'
