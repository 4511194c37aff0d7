-- close_entries_since: lines of a period that came after a given one, and what they come to.
select count(*) as entries, cast(coalesce(sum(amount_micros), 0) as bigint) as amount_micros
  from entry
 where entry_id > :after_entry_id and timestamp_us >= :from_us and timestamp_us < :to_us
   and (:customer_id = '' or customer_id = :customer_id)
