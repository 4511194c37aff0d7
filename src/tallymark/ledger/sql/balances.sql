-- balances: per customer and meter: entries = covered by accepted or carried + on the way + open, and the carry.
select e.customer_id, e.meter, cast(sum(e.amount_micros) as bigint) as entries_micros,
       cast(coalesce(sum(case when e.meter_event_id is null then e.amount_micros end), 0) as bigint) as open_micros,
       (select cast(coalesce(sum(m.credits), 0) as bigint) from meter_event as m
         where m.customer_id = e.customer_id and m.meter = e.meter and m.state = 'accepted') as accepted_credits,
       (select cast(coalesce(sum(m.credits), 0) as bigint) from meter_event as m
         where m.customer_id = e.customer_id and m.meter = e.meter
           and m.state in ('pending', 'sending', 'streamed', 'cancelling', 'rejected', 'in_doubt', 'held')) as owed_credits,
       coalesce((select c.amount_micros from carry as c where c.customer_id = e.customer_id and c.meter = e.meter), 0) as carry_micros
  from entry as e
 group by e.customer_id, e.meter
 order by e.customer_id, e.meter
