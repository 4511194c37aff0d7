-- parts_by_state: how far a plan is.
select stage, state, count(*) as parts from plan_part where plan_id = :plan_id group by stage, state
