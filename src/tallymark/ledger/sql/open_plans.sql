-- open_plans: plans that go on, the oldest first.
select * from plan where stage not in ('done', 'failed', 'cancelled') order by made_at_us, plan_id
