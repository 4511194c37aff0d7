-- settle_cancel: store the answer to the attempt that asked, where the meter event was not taken back for certain.
update meter_event
   set state = :state, reason = :reason, answer = :answer, claimed_by = null, claimed_until_us = null,
       unanswered_since_us = :unanswered_since_us
 where meter_event_id = :meter_event_id and state = 'cancelling' and attempt = :attempt
