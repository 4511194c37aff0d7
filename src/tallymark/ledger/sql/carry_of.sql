select amount_micros from carry where customer_id = :customer_id and meter = :meter
