-- billed_by_meter: what one trace was billed on each meter, and how many lines that took. What was waived or invoiced
-- otherwise counts as billed: it is not owed again.
select meter, cast(sum(case when kind in ('waiver', 'invoiced') then 0 else amount_micros end) as bigint) as billed_micros,
       count(*) as entries
  from entry
 where project_id = :project_id and trace_id = :trace_id
 group by meter
