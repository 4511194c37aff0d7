-- list_held: traces that wait for a person, one reason or all.
select project_id, trace_id, timestamp_us, reason, detail, customer_id, user_id, worth_micros, read_at_us
  from trace
 where outcome = 'held' and (:reason = '' or reason = :reason)
 order by reason, timestamp_us
 limit :limit
