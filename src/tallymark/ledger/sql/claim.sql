-- claim: take a meter event for sending. Committed before its request leaves.
update meter_event
   set state = 'sending', attempt = attempt + 1, reissue = :reissue, claimed_by = :claimed_by, claimed_until_us = :claimed_until_us
 where meter_event_id = :meter_event_id and state = 'pending'
returning attempt
