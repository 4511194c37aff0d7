-- charged: what one trace was billed on each meter, to whom and dated when; before it was moved by a decision, and since.
select customer_id, meter, timestamp_us,
       cast(sum(case when kind in ('charge', 'adjustment') then amount_micros else 0 end) as bigint) as charged_micros,
       cast(sum(case when kind in ('waiver', 'invoiced') then 0 else amount_micros end) as bigint) as billed_micros
  from entry
 where project_id = :project_id and trace_id = :trace_id
 group by customer_id, meter, timestamp_us
 order by customer_id, meter, timestamp_us
