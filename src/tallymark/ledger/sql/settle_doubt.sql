-- settle_doubt: Stripe's value of its window, or a person, has decided a meter event that was in doubt.
update meter_event
   set state = :state, reason = :reason, answer = :answer, answered_at_us = :now_us, unanswered_since_us = null,
       next_attempt_at_us = 0
 where meter_event_id = :meter_event_id and state = 'in_doubt'
