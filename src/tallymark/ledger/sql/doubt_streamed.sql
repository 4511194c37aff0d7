-- doubt_streamed: what was streamed and what no sum has shown within the time in which Stripe knows identifiers is in doubt. How
-- old one from the future is, by a clock that was wrong, nobody knows.
update meter_event
   set state = 'in_doubt', next_attempt_at_us = 0,
       answer = 'streamed, and shown by no sum within the time in which Stripe knows identifiers'
 where state = 'streamed' and (unanswered_since_us < :promise_ended_us or unanswered_since_us > :ahead_us)
