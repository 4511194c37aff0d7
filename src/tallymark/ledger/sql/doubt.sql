-- doubt: a send that was never answered and is older than Stripe's promise is never repeated blindly (G1).
update meter_event
   set state = 'in_doubt', answer = 'not answered within the time in which Stripe knows identifiers'
 where state in ('pending', 'rejected') and unanswered_since_us < :promise_ended_us
