-- sent_since: credits that Stripe has accepted from a moment on.
select cast(coalesce(sum(credits), 0) as bigint) as credits
  from meter_event where state = 'accepted' and answered_at_us >= :from_us
