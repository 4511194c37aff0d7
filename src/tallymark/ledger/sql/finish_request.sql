-- finish_request: the run has ended, whether it worked or not, and is done with.
update run_request
   set owner = '', lease_until_us = 0, finished_at_us = :now_us, problem = :problem, summary = :summary
 where request_id = :name and attempt = :attempt and owner <> ''
