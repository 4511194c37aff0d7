-- close_marks: traces of a period whose mark is still to be written, and how many of them Langfuse refused to take.
select count(*) as traces, cast(coalesce(sum(billed_micros), 0) as bigint) as amount_micros, count(mark_problem) as refused
  from trace
 where mark_state = 'owed' and timestamp_us >= :from_us and timestamp_us < :to_us
   and (:customer_id = '' or customer_id = :customer_id)
