-- creditable: what a trace was billed on each meter and a customer pays, by invoice items too, and how many lines it has.
select meter, cast(sum(case when kind = 'invoiced' then 0 else amount_micros end) as bigint) as amount_micros,
       count(*) as entries, max(card_digest) as card_digest
  from entry
 where project_id = :project_id and trace_id = :trace_id
 group by meter
 order by meter
