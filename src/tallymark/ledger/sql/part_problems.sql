-- part_problems: why parts of a plan went wrong.
select stage, number, from_us, to_us, state, tries, problem
  from plan_part
 where plan_id = :plan_id and problem <> '' and state <> 'done'
 order by stage, number
 limit :limit
