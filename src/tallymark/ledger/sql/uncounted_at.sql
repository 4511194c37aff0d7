-- uncounted_at: meter events of one bucket that Stripe certainly does not count and that wait (held, or refused, also if it is
-- to be offered again), with usage of a trace that came to less since. One that is becoming an invoice item stays as it is.
select m.meter_event_id, m.entries_micros
  from meter_event as m
 where m.customer_id = :customer_id and m.meter = :meter and m.bucket_start_us = :bucket_start_us
   and m.bucket_end_us = :bucket_end_us and m.bucket_key = :bucket_key
   and (m.state in ('held', 'rejected') or (m.state = 'pending' and m.attempt > 0)) and m.unanswered_since_us is null
   and exists (select 1 from entry as less
                 join entry as waiting on waiting.project_id = less.project_id and waiting.trace_id = less.trace_id
                where less.meter_event_id is null and less.customer_id = m.customer_id and less.meter = m.meter
                  and less.amount_micros < 0 and less.bucket_key = m.bucket_key
                  and less.timestamp_us >= m.bucket_start_us and less.timestamp_us < m.bucket_end_us
                  and waiting.meter_event_id = m.meter_event_id)
   and not exists (select 1 from decision as d
                    where d.subject = m.meter_event_id and d.subject_kind = 'meter_event' and d.verb = 'invoice_item'
                      and not exists (select 1 from decision as r
                                       where r.subject_kind = 'meter_event' and r.subject = d.subject
                                         and r.verb = 'refused' and r.decision_id > d.decision_id))
 order by m.revision
