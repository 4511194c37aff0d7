-- entries_by_window: what the lines of a range come to, by customer, meter, window of their usage, and kind.
select e.customer_id, e.meter, e.timestamp_us - e.timestamp_us % :width_us as window_us, e.kind,
       case when e.meter_event_id is null then 1 else 0 end as is_open,
       cast(sum(e.amount_micros) as bigint) as amount_micros
  from entry as e
 where e.timestamp_us >= :from_us and e.timestamp_us < :to_us and e.run_id <> :run_id
 group by 1, 2, 3, 4, 5
 order by 1, 2, 3, 4, 5
