-- adjustments: what was corrected, by customer.
select customer_id, cast(sum(amount_micros) as bigint) as amount_micros from entry where kind = 'adjustment' group by customer_id
