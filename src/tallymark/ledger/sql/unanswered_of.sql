-- unanswered_of: the meter event of a customer and meter that was sent and never answered, as next_claimable gives one.
-- `is_due`: it may be offered now. One to be offered later than any delay was set by a wrong clock.
-- `coalesce` keeps the database from looking at all that is pending.
select meter_event_id, customer_id, meter, timestamp_s, credits, payload, attempt, unanswered_since_us, reissue,
       case when state = 'pending' and (next_attempt_at_us <= :now_us or next_attempt_at_us > :ahead_us) then 1 else 0 end as is_due
  from meter_event
 where unanswered_since_us is not null and coalesce(state, '') in ('pending', 'rejected')
   and customer_id = :customer_id and meter = :meter
 order by unanswered_since_us
 limit 1
