delete from usage_stale where day_us = :day_us and customer_id = :customer_id
