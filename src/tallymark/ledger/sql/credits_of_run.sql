-- credits_of_run: what a run billed, in the lines after a given one.
select cast(coalesce(sum(amount_micros), 0) as bigint) as amount_micros
  from entry
 where entry_id > :after_entry_id and run_id = :run_id
