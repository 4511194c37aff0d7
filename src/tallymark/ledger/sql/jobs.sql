select * from job order by due_at_us, name
