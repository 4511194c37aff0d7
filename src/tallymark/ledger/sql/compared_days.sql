-- compared_days: what a reconciliation found of each customer, meter and day.
select day_us, customer_id, meter, langfuse_micros, entries_micros, accepted_micros, stripe_micros, differences
  from compared_day
 where run_id = :run_id
 order by day_us, customer_id, meter
