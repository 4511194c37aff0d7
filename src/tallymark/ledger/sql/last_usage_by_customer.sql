-- last_usage_by_customer: when the newest billed trace of each customer was, of those with usage in a span of time.
select customer_id, max(timestamp_us) as timestamp_us
  from trace
 where outcome = 'billed' and timestamp_us >= :since_us and timestamp_us <= :until_us
 group by customer_id
 order by customer_id
