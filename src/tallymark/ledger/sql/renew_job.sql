update job set lease_until_us = :until_us where name = :name and attempt = :attempt and owner <> ''
