-- customers_known: some of the customers with usage.
select distinct customer_id from carry order by customer_id limit :limit
