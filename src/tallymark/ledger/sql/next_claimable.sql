-- next_claimable: the oldest pending meter event of the next (customer, meter) after a given one that has any to be offered.
-- `in_flight`: that customer and meter have a call in flight, and Stripe wants one at a time (facts/stripe.md section 6).
-- `is_late`: it was never sent, and is too late for its invoice. One to be offered later than any delay was set by a wrong clock.
select e.meter_event_id, e.customer_id, e.meter, e.timestamp_s, e.credits, e.payload, e.attempt, e.unanswered_since_us, e.reissue,
       (select count(*) from meter_event as s
         where s.customer_id = e.customer_id and s.meter = e.meter and s.state in ('sending', 'cancelling')) as in_flight,
       case when e.unanswered_since_us is null and e.released_by is null
            then (select count(*) from period as p
                   where p.customer_id = e.customer_id and p.meter = e.meter
                     and ((p.end_us <= :final_us and p.end_us > e.timestamp_s * 1000000)
                          or (p.start_us <= :final_us and p.start_us > e.timestamp_s * 1000000)))
            else 0 end as is_late
  from meter_event as e
 where e.state = 'pending' and (e.customer_id, e.meter) > (:after_customer_id, :after_meter)
   and (e.next_attempt_at_us <= :now_us or e.next_attempt_at_us > :ahead_us)
 order by e.customer_id, e.meter, e.bucket_start_us, e.revision, e.meter_event_id
 limit 1
