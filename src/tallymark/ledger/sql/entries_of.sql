-- entries_of: the lines of one trace, with the meter events that cover them.
select e.*, m.state, m.reissue, m.reason, m.credits, m.timestamp_s, m.attempt, m.answered_at_us, m.answer,
       m.carry_before_micros, m.carry_after_micros, m.entries_micros, m.bucket_start_us as covers_from_us,
       m.bucket_end_us as covers_to_us
  from entry as e
  left join meter_event as m on m.meter_event_id = e.meter_event_id
 where e.project_id = :project_id and e.trace_id = :trace_id
 order by e.entry_id
