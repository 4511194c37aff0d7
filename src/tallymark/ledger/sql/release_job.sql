-- release_job: the run was stopped; it stays due, and whoever is there goes on at once.
update job set owner = '', lease_until_us = 0 where name = :name and attempt = :attempt and owner <> ''
