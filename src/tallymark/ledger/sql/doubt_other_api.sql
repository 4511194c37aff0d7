-- doubt_other_api: what was sent by one API and never answered is not sent again by another, which may not know its identifier.
update meter_event
   set state = 'in_doubt', next_attempt_at_us = 0, answer = :answer
 where state in ('pending', 'rejected') and unanswered_since_us is not null
