-- delete_period_checks: what was read of a customer up to a moment may be out of date: lanes_to_check asks for it again.
delete from period_check where customer_id = :customer_id and read_at_us <= :until_us
