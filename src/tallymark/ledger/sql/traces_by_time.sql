-- traces_by_time: traces that meet all that is asked, the newest first; for when most do.
select project_id, trace_id, timestamp_us, name, user_id, customer_id, outcome, reason, detail, worth_micros, billed_micros,
       waived_micros, mark_state
  from trace
 where timestamp_us >= :from_us and timestamp_us <= :until_us
   and (timestamp_us < :until_us or (project_id, trace_id) > (:after_project, :after_trace))
   and (:outcome = '' or outcome = :outcome) and (:reason = '' or reason = :reason)
   and (:project_id = '' or project_id = :project_id)
   and (:customer_id = '' or customer_id = :customer_id)
 order by timestamp_us desc, project_id, trace_id
 limit :limit
