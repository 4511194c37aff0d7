-- take_request: a process runs it from now on; an earlier attempt can store nothing any more.
update run_request
   set owner = :owner, lease_until_us = :until_us, attempt = attempt + 1, started_at_us = :now_us, run_id = :run_id
 where request_id = :request_id
