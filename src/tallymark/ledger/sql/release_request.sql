-- release_request: the run was stopped; whoever is there goes on at once.
update run_request set owner = '', lease_until_us = 0 where request_id = :name and attempt = :attempt and owner <> ''
