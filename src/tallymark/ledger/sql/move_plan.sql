-- move_plan: a plan goes on to its next stage, or ends; fenced by the stage that it was in.
update plan
   set stage = :stage, stage_at_us = :now_us, counts = :counts, problem = :problem
 where plan_id = :plan_id and stage = :before
