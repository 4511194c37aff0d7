-- open_meter_events_of: the unsettled meter events that hold money of one trace.
select distinct m.meter_event_id
  from entry as e
  join meter_event as m on m.meter_event_id = e.meter_event_id
 where e.project_id = :project_id and e.trace_id = :trace_id and m.state in ('held', 'rejected', 'in_doubt')
 order by m.meter_event_id
