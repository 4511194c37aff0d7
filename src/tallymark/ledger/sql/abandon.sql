-- abandon: the owner of a claim is gone; its send may or may not have arrived.
update meter_event
   set state = 'pending', claimed_by = null, claimed_until_us = null, next_attempt_at_us = 0,
       unanswered_since_us = coalesce(unanswered_since_us, :sent_at_us)
 where meter_event_id = :meter_event_id and state = 'sending' and attempt = :attempt
