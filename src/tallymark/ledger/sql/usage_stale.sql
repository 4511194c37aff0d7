-- usage_stale: days that touch a range and whose sums are not to be used, of one customer or all.
select day_us, customer_id
  from usage_stale
 where day_us >= :from_day_us and day_us < :to_us and (:customer_id = '' or customer_id = :customer_id)
 order by day_us, customer_id
