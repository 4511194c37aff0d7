-- sent_later: meter events of a window that were sent after one of it, and that Stripe may count.
-- A bucket is at most a day long, and begins at most a day after the time that its meter event is dated.
select m.meter_event_id
  from meter_event as m
 where m.customer_id = :customer_id and m.meter = :meter and m.meter_event_id <> :meter_event_id
   and m.bucket_start_us >= :buckets_from_us and m.bucket_start_us < :buckets_to_us
   and m.timestamp_s >= :start_s and m.timestamp_s < :end_s
   and (m.state in ('accepted', 'sending', 'in_doubt') or m.unanswered_since_us is not null)
   and exists (select 1 from attempt as a
                where a.meter_event_id = m.meter_event_id and coalesce(a.outcome, '') not in ('rejected', 'throttled')
                  and a.sent_at_us >= (select max(own.sent_at_us) from attempt as own
                                        where own.meter_event_id = :meter_event_id))
