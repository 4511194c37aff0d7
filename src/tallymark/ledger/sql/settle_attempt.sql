-- settle_attempt: the answer to one attempt, kept even if its claim has ended.
update attempt
   set answered_at_us = :now_us, outcome = :outcome, answer = :answer
 where meter_event_id = :meter_event_id and attempt = :attempt
