-- open_parts: what is left to do of a plan's stage.
select part.*
  from plan_part as part
  join plan on plan.plan_id = part.plan_id and plan.stage = part.stage
 where part.plan_id = :plan_id and part.state = 'open'
 order by part.number
