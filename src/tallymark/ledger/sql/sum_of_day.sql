-- sum_of_day: the same in one sum.
select cast(coalesce(sum(amount_micros), 0) as bigint) as amount_micros, count(*) as entries
  from entry
 where customer_id = :customer_id and meter = :meter and timestamp_us >= :from_us and timestamp_us < :to_us
   and entry_id <= :last_entry_id
