-- part_counts: what the parts of a plan counted.
select stage, counts from plan_part where plan_id = :plan_id and state = 'done' order by stage, number
