-- doubt: a send that was never answered and is older than Stripe's promise is never repeated blindly (G1). How old one from
-- the future is, by a clock that was wrong, nobody knows.
-- A running total may be sent again at any age: the last one counts.
-- `coalesce` keeps the database from looking at all that is pending.
update meter_event
   set state = 'in_doubt', answer = 'not answered within the time in which Stripe knows identifiers'
 where unanswered_since_us is not null and coalesce(state, '') in ('pending', 'rejected')
   and (unanswered_since_us < :promise_ended_us or unanswered_since_us > :ahead_us)
   and not exists (select 1 from meter_window as w where w.meter = meter_event.meter)
