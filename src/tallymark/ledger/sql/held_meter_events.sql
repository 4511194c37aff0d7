-- held_meter_events: meter events that wait for a person, one reason or all, the oldest bucket first, behind a place; the reason
-- of one that is not held is its state.
select meter_event_id, customer_id, meter, bucket_start_us, bucket_end_us, credits, entries_micros, state, reason, attempt,
       answer, created_at_us
  from (select m.*, case state when 'held' then m.reason else state end as why from meter_event as m
         where state in ('rejected', 'in_doubt', 'held')) as waiting
 where (:reason = '' or why = :reason)
   and (bucket_start_us, meter_event_id) > (:after_us, :after_id)
 order by bucket_start_us, meter_event_id
 limit :limit
