-- settle: store the meter's answer for the attempt that asked.
-- No row back: the claim has ended and another worker owns the meter event. The caller drops its answer.
update meter_event
   set state = :state, answered_at_us = :now_us, answer = :answer, claimed_by = null, claimed_until_us = null,
       next_attempt_at_us = :next_attempt_at_us, unanswered_since_us = :unanswered_since_us
 where meter_event_id = :meter_event_id and state = 'sending' and attempt = :attempt
returning state
