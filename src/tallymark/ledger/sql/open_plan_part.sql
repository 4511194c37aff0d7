-- open_plan_part: a part of a plan, if it is of the stage that goes on and has not ended.
select part.*
  from plan_part as part
  join plan on plan.plan_id = part.plan_id and plan.stage = part.stage
 where part.plan_id = :plan_id and part.stage = :stage and part.number = :number and part.state = 'open'
