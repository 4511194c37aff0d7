-- current_periods: since when each customer's billing period is, as it was last read; of several, the one that began first.
select customer_id, min(start_us) as start_us
  from period
 where start_us <= :now_us and end_us > :now_us
 group by customer_id
 order by start_us, customer_id
