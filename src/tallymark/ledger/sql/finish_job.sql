-- finish_job: the run has ended; succeeded_at_us only moves if it worked.
update job
   set owner = '', lease_until_us = 0, due_at_us = :due_us, finished_at_us = :now_us,
       succeeded_at_us = case when :problem = '' then :now_us else succeeded_at_us end,
       failed_in_a_row = case when :problem = '' then 0 else failed_in_a_row + 1 end,
       problem = :problem, runs = runs + 1, failures = failures + case when :problem = '' then 0 else 1 end,
       run_us = run_us + :run_us, langfuse_requests = langfuse_requests + :langfuse_requests,
       stripe_requests = stripe_requests + :stripe_requests, accepted = accepted + :accepted
 where name = :name and attempt = :attempt and owner <> ''
