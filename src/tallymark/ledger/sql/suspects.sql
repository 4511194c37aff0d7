-- suspects: meter events that a report may speak of without naming them: of its meter ('' for any), sent or answered in its
-- time, and not seen as counted in their window's value since.
select m.meter_event_id, m.customer_id, m.meter, m.timestamp_s, m.state, m.next_attempt_at_us
  from meter_event as m
 where (m.meter = :meter or :meter = '')
   and (m.state = 'accepted' and m.reason <> 'counted' or m.state in ('sending', 'in_doubt') or m.unanswered_since_us is not null)
   and exists (select 1 from attempt as a
                where a.meter_event_id = m.meter_event_id and a.sent_at_us <= :to_us
                  and coalesce(a.answered_at_us, a.sent_at_us) >= :from_us)
 order by m.next_attempt_at_us, m.customer_id, m.meter, m.timestamp_s
 limit :limit
