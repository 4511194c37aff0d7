-- take_back: Stripe has reported that it did not count a meter event which it had taken.
update meter_event
   set state = :state, reason = :reason, answer = :answer, reported_at_us = :now_us, unanswered_since_us = null,
       next_attempt_at_us = 0
 where meter_event_id = :meter_event_id and state in ('accepted', 'streamed', 'in_doubt', 'pending', 'rejected') and reported_at_us is null
