-- negative_carries: customers to whom something is given back with their next usage, and since when.
select c.customer_id, c.meter, c.amount_micros,
       (select max(m.created_at_us) from meter_event as m
         where m.customer_id = c.customer_id and m.meter = c.meter
           and m.carry_before_micros >= 0 and m.carry_after_micros < 0) as since_us
  from carry as c
 where c.amount_micros < 0
 order by c.customer_id, c.meter
