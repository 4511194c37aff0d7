-- traces_of_day: what the lines of a customer, a meter and a span come to by trace, up to a line, behind a trace.
select project_id, trace_id, min(timestamp_us) as timestamp_us, cast(sum(amount_micros) as bigint) as amount_micros,
       count(*) as entries
  from entry
 where customer_id = :customer_id and meter = :meter and timestamp_us >= :from_us and timestamp_us < :to_us
   and entry_id <= :last_entry_id and (project_id, trace_id) > (:after_project, :after_trace)
 group by project_id, trace_id
 order by project_id, trace_id
 limit :limit
