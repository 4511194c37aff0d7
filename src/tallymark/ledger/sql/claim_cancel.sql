-- claim_cancel: take a meter event to ask Stripe to take it back. Committed before the request leaves. Whether an earlier
-- request arrived that nobody answered is not known.
update meter_event
   set state = 'cancelling', attempt = attempt + 1, claimed_by = :claimed_by, claimed_until_us = :claimed_until_us,
       unanswered_since_us = case state when 'cancelling' then coalesce(unanswered_since_us, :now_us) end
 where meter_event_id = :meter_event_id and state in ('accepted', 'cancelling')
