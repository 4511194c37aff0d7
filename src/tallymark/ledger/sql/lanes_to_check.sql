-- lanes_to_check: customers and meters with money to send, whose billing periods are not known as of now: never read, a
-- period that was current then has ended, or there was none a day ago. A reading from the future was made by another clock.
select lane.customer_id, lane.meter
  from (select customer_id, meter from entry where meter_event_id is null
         union
        select customer_id, meter from meter_event where state in ('pending', 'rejected')) as lane
  left join period_check as c on c.customer_id = lane.customer_id and c.meter = lane.meter
 where c.read_at_us is null or c.read_at_us > :ahead_us
    or exists (select 1 from period as p
                where p.customer_id = lane.customer_id and p.meter = lane.meter
                  and p.end_us > c.read_at_us and p.end_us <= :now_us)
    or (c.read_at_us <= :day_ago_us
        and not exists (select 1 from period as p
                         where p.customer_id = lane.customer_id and p.meter = lane.meter and p.end_us > c.read_at_us))
 order by lane.customer_id, lane.meter
