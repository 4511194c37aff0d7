-- end_part: a part ended, well or not; one that has ended already, or was cancelled, stays as it is.
update plan_part
   set state = :state, counts = :counts, problem = :problem, ended_at_us = :now_us
 where plan_id = :plan_id and stage = :stage and number = :number and state = 'open'
   and exists (select 1 from plan where plan.plan_id = plan_part.plan_id and plan.stage = plan_part.stage)
