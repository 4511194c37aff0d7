-- in_window: meter events whose timestamp lies in a window, with when they were first and last sent.
select m.meter_event_id, m.meter, m.timestamp_s, m.state, m.credits, m.reason, m.answer, m.unanswered_since_us,
       m.answered_at_us, m.reported_at_us,
       (select min(a.sent_at_us) from attempt as a where a.meter_event_id = m.meter_event_id) as first_sent_us,
       (select max(a.sent_at_us) from attempt as a where a.meter_event_id = m.meter_event_id) as last_sent_us
  from meter_event as m
 where m.customer_id = :customer_id and m.meter = :meter
   and m.bucket_start_us >= :buckets_from_us and m.bucket_start_us < :buckets_to_us
   and m.timestamp_s >= :start_s and m.timestamp_s < :end_s and m.state <> 'carried'
 order by m.timestamp_s, m.meter_event_id
