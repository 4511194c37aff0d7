-- drop_readings: what else a plan's parts staged of the same traces; their observations are kept, and decided with the rest.
delete from reading where staged_by >= :plan_id || '/' and staged_by < :plan_id || '0'
