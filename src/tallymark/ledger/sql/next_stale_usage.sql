-- next_stale_usage: some of the customers and days that are to be added up again.
select day_us, customer_id from usage_stale order by day_us, customer_id limit :limit
