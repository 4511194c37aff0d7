-- billed_by_meter: what one trace was billed on each meter, and to whom.
select meter, customer_id, cast(sum(amount_micros) as bigint) as billed_micros, count(*) as entries
  from entry
 where project_id = :project_id and trace_id = :trace_id
 group by meter, customer_id
