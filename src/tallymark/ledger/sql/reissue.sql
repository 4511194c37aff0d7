-- reissue: a meter event that Stripe has reported as not counted is to be sent again, under a new identifier.
update meter_event
   set state = 'pending', reissue = reissue + 1, reported_at_us = null, reason = '', next_attempt_at_us = 0,
       released_by = coalesce(:released_by, released_by)
 where meter_event_id = :meter_event_id and state in ('rejected', 'held') and reported_at_us is not null
