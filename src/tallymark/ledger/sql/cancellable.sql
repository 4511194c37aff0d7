-- cancellable: accepted meter events of a single trace that came to less since: the newest of each bucket, one of each
-- (customer, meter) that has no call in flight. Stripe takes back what it received less than a day ago, and a final invoice
-- stays as it is (facts/stripe.md section 3). One that it refused to take back is not asked for again.
select meter_event_id, customer_id, meter, attempt, reissue
  from (select m.*, row_number() over (partition by m.customer_id, m.meter
                                       order by m.bucket_start_us, m.bucket_key, m.revision desc) as place
          from (select customer_id, meter, bucket_start_us, bucket_end_us, bucket_key
                  from entry
                 where meter_event_id is null and bucket_key <> ''
                 group by customer_id, meter, bucket_start_us, bucket_end_us, bucket_key
                having sum(amount_micros) < 0) as less
          join meter_event as m
            on m.customer_id = less.customer_id and m.meter = less.meter and m.bucket_start_us = less.bucket_start_us
           and m.bucket_end_us = less.bucket_end_us and m.bucket_key = less.bucket_key
         where m.state = 'accepted' and m.reason <> 'kept'
           and (select min(a.sent_at_us) from attempt as a where a.meter_event_id = m.meter_event_id) > :received_after_us
           and not exists (select 1 from meter_event as s
                            where s.customer_id = m.customer_id and s.meter = m.meter
                              and s.state in ('sending', 'cancelling'))
           and not exists (select 1 from period as p
                            where p.customer_id = m.customer_id and p.meter = m.meter
                              and ((p.end_us <= :final_us and p.end_us > m.timestamp_s * 1000000)
                                   or (p.start_us <= :final_us and p.start_us > m.timestamp_s * 1000000)))) as lane
 where place = 1
 order by meter_event_id
 limit :limit
