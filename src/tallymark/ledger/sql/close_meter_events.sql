-- close_meter_events: meter events dated in a period that are not settled, by why: open, in_doubt, rejected, or held for a reason.
select why, cast(sum(traces) as bigint) as traces, cast(sum(entries_micros) as bigint) as amount_micros
  from (select case m.state when 'held' then m.reason when 'rejected' then m.state when 'in_doubt' then m.state
                            else 'open' end as why,
               m.entries_micros,
               (select count(*) from (select distinct e.project_id, e.trace_id from entry as e
                                       where e.meter_event_id = m.meter_event_id) as covered) as traces
          from meter_event as m
         where m.state in ('pending', 'sending', 'streamed', 'cancelling', 'rejected', 'in_doubt', 'held')
           and m.timestamp_s * 1000000 >= :from_us and m.timestamp_s * 1000000 < :to_us
           and (:customer_id = '' or m.customer_id = :customer_id)) as unsettled
 group by why
 order by why
