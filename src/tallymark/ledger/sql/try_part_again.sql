-- try_part_again: a part went wrong, and is to be tried again.
update plan_part
   set tries = tries + 1, problem = :problem
 where plan_id = :plan_id and stage = :stage and number = :number and state = 'open'
