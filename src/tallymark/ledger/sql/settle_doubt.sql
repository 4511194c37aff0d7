-- settle_doubt: Stripe's value of its window, or a person, has decided a meter event that was in doubt, or streamed. One that was
-- streamed is sent again only as long as Stripe knows its identifier, counted from its first send: the sums may lag.
update meter_event
   set state = :state, reason = :reason, answer = :answer, answered_at_us = :now_us,
       unanswered_since_us = case when state = 'streamed' and :state = 'pending' then unanswered_since_us end,
       next_attempt_at_us = 0
 where meter_event_id = :meter_event_id and state in ('in_doubt', 'streamed')
