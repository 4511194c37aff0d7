-- list_open_meter_events: meter events that are not settled, one reason or all; that of one not held is its state.
select meter_event_id, customer_id, meter, bucket_start_us, bucket_end_us, credits, entries_micros, state, reason, attempt,
       answer, created_at_us
  from (select m.*, case state when 'held' then m.reason else state end as why from meter_event as m
         where state in ('pending', 'sending', 'streamed', 'cancelling', 'rejected', 'in_doubt', 'held')) as unsettled
 where :reason = '' or why = :reason
 order by state, bucket_start_us, meter_event_id
 limit :limit
