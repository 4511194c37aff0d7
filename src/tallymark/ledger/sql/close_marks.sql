-- close_marks: traces of a period whose mark is still to be written, and how many of them Langfuse refused to take. The sum
-- keeps it from the index by time: those that owe a mark are fewer.
select count(*) as traces, cast(coalesce(sum(billed_micros), 0) as bigint) as amount_micros, count(mark_problem) as refused
  from trace
 where mark_state = 'owed' and timestamp_us + 0 >= :from_us and timestamp_us + 0 < :to_us
   and (:customer_id = '' or customer_id = :customer_id)
