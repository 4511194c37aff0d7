-- shorten_claim: the owner of a claim is gone; its last request may still be on its way for a moment.
update meter_event
   set claimed_until_us = :until_us
 where meter_event_id = :meter_event_id and attempt = :attempt and claimed_until_us > :until_us
