-- plans: plans that go on, and those that ended last, the newest first.
select * from plan order by made_at_us desc, plan_id desc limit :limit
