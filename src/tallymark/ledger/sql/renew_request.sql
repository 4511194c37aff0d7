update run_request set lease_until_us = :until_us where request_id = :name and attempt = :attempt and owner <> ''
