-- carries: the carry of each customer and meter, then what each meter event found and left as carry, oldest first.
select customer_id, meter, meter_event_id, state, carry_before_micros, carry_after_micros, created_at_us, bucket_start_us
  from meter_event
union all
select customer_id, meter, '', 'carry', 0, amount_micros, 0, 0
  from carry
 order by customer_id, meter, created_at_us, bucket_start_us
