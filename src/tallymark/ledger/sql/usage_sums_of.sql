-- usage_sums_of: the sums of whole days that touch a range, of one customer, which nothing has made stale.
select u.day_us, u.customer_id, u.flow, u.model, u.traces, u.billed_micros, u.waived_micros, u.first_us, u.last_us, u.read_at_us,
       u.cost_usd, u.revenue_usd, u.components
  from usage_sum as u
 where u.customer_id = :customer_id and u.day_us >= :from_day_us and u.day_us < :to_us
   and not exists (select 1 from usage_stale as s where s.day_us = u.day_us and s.customer_id = u.customer_id)
 order by u.day_us, u.flow, u.model
