-- put_job: a job is there, due at once or when it says; one that is there is due no later than its settings say today.
insert into job (name, due_at_us, owner, lease_until_us, attempt, problem, runs, failures, run_us, langfuse_requests,
                 stripe_requests, accepted)
values (:name, :first_us, '', 0, 0, '', 0, 0, 0, 0, 0, 0)
on conflict (name) do update
   set due_at_us = case when job.due_at_us > :latest_us then :latest_us else job.due_at_us end
