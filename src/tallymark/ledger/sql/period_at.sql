-- period_at: the billing period of a customer that holds a moment, as it was last read; of several, the one that began first.
select start_us, end_us
  from period
 where customer_id = :customer_id and start_us <= :at_us and end_us > :at_us
 order by start_us, end_us
 limit 1
