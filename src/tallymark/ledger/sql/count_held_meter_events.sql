-- count_held_meter_events: meter events that are held, refused or in doubt, by reason, with the traces in them.
select reason, count(*) as meter_events, cast(sum(entries_micros) as bigint) as amount_micros,
       cast(sum(traces) as bigint) as traces
  from (select case m.state when 'held' then m.reason else m.state end as reason, m.entries_micros,
               (select count(*) from (select distinct e.project_id, e.trace_id from entry as e
                                       where e.meter_event_id = m.meter_event_id) as covered) as traces
          from meter_event as m
         where m.state in ('held', 'rejected', 'in_doubt')) as waiting
 group by reason
 order by reason
