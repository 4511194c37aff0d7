-- claimable: the oldest meter event of each (customer, meter) that has none in flight. One call in flight per customer
-- and meter is Stripe's rule (facts/stripe.md section 6). One to be offered later than any delay was set by a wrong clock.
select meter_event_id, customer_id, meter, timestamp_s, credits, payload, attempt, unanswered_since_us, reissue
  from (select e.*, row_number() over (partition by customer_id, meter order by bucket_start_us, revision,
                                              meter_event_id) as place
          from meter_event as e
         where e.state = 'pending' and (e.next_attempt_at_us <= :now_us or e.next_attempt_at_us > :ahead_us)
           and not exists (select 1 from meter_event as s
                            where s.customer_id = e.customer_id and s.meter = e.meter
                              and s.state in ('sending', 'cancelling'))) as lane
 where place = 1
 order by bucket_start_us, customer_id, meter
 limit :limit
