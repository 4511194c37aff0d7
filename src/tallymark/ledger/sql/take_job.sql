-- take_job: a process runs it from now on; what had been left of an earlier attempt can store nothing any more.
update job
   set owner = :owner, lease_until_us = :until_us, attempt = attempt + 1, started_at_us = :now_us, run_id = :run_id
 where name = :name
