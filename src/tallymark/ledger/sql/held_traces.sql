-- held_traces: traces that wait for a person, one reason or all, the oldest first, behind a place.
select * from (
  select project_id, trace_id, timestamp_us, reason, detail, customer_id, user_id, worth_micros as amount_micros
    from trace
   where reason <> '' and outcome = 'held' and timestamp_us >= :from_us
     and (timestamp_us > :from_us or (project_id, trace_id) > (:after_project, :after_trace))
     and (:reason = '' or reason = :reason)
   order by timestamp_us, project_id, trace_id
   limit :limit) as held
union all
select * from (
  select project_id, trace_id, timestamp_us, reason, 'it is gone in Langfuse' as detail, customer_id, user_id,
         billed_micros as amount_micros
    from trace
   where reason <> '' and outcome = 'billed' and reason = 'deleted' and timestamp_us >= :from_us
     and (timestamp_us > :from_us or (project_id, trace_id) > (:after_project, :after_trace))
     and (:reason = '' or reason = :reason)
   order by timestamp_us, project_id, trace_id
   limit :limit) as gone
 order by timestamp_us, project_id, trace_id
 limit :limit
