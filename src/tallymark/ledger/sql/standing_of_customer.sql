-- standing_of_customer: what a customer's meter events come to by state, what is in none yet, and the carry, by meter. What was
-- carried is in the carry, and what was cancelled was taken back.
select meter, state as what, cast(sum(credits) * 1000000 as bigint) as amount_micros
  from meter_event
 where customer_id = :customer_id and state not in ('carried', 'cancelled')
 group by meter, state
 union all
select meter, 'unsent' as what, cast(sum(amount_micros) as bigint) as amount_micros
  from entry
 where meter_event_id is null and customer_id = :customer_id
 group by meter
 union all
select meter, 'carry' as what, amount_micros
  from carry
 where customer_id = :customer_id
