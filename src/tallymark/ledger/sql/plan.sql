select * from plan where plan_id = :plan_id
