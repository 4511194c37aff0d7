delete from usage_sum where day_us = :day_us and customer_id = :customer_id
