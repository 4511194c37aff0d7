select cast(coalesce(sum(amount_micros), 0) as bigint) from entry where run_id = :run_id
