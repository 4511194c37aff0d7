-- owed_marks: traces of a project to mark, with the last meter event that covers them.
select t.project_id, t.trace_id, t.timestamp_us, t.name, t.user_id, t.session_id, t.release, t.version, t.environment,
       t.public, t.bookmarked, t.billed_micros, t.card_digest, t.components, t.outcome, m.meter_event_id, m.state,
       m.answered_at_us, m.bucket_start_us
  from trace as t
  left join meter_event as m
    on m.meter_event_id = (select e.meter_event_id from entry as e
                            where e.project_id = t.project_id and e.trace_id = t.trace_id
                            order by e.entry_id desc limit 1)
 where t.mark_state = 'owed' and (t.project_id, t.trace_id) > (:project_id, :after_trace_id) and t.project_id <= :project_id
 order by t.project_id, t.trace_id
 limit :limit
