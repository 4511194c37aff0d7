-- put_stale_usage: the sums of a customer and day are to be made again.
insert into usage_stale (day_us, customer_id) values (:day_us, :customer_id)
on conflict do nothing
