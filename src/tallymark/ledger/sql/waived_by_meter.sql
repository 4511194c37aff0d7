-- waived_by_meter: what one trace was not billed on each meter, by decisions.
select meter, cast(sum(-amount_micros) as bigint) as waived_micros
  from entry
 where project_id = :project_id and trace_id = :trace_id and kind = 'waiver'
 group by meter
