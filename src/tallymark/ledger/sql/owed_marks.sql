-- owed_marks: traces of a project to mark, with their last line and the meter event that covers it.
select t.project_id, t.trace_id, t.timestamp_us, t.name, t.user_id, t.session_id, t.release, t.version, t.environment,
       t.public, t.bookmarked, t.billed_micros, t.card_digest, t.components, t.outcome, newest.kind, m.meter_event_id, m.state,
       m.answered_at_us, m.bucket_start_us
  from trace as t
  left join entry as newest
    on newest.entry_id = (select max(e.entry_id) from entry as e
                           where e.project_id = t.project_id and e.trace_id = t.trace_id)
  left join meter_event as m on m.meter_event_id = newest.meter_event_id
 where t.mark_state = 'owed' and (t.project_id, t.trace_id) > (:project_id, :after_trace_id) and t.project_id <= :project_id
 order by t.project_id, t.trace_id
 limit :limit
