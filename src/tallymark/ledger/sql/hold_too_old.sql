-- hold_too_old: what was never sent, and Stripe would refuse as too old by now, waits for a person.
update meter_event
   set state = 'held', reason = 'too_old'
 where state = 'pending' and unanswered_since_us is null and timestamp_s < :oldest_s
