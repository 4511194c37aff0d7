-- owe_marks: traces of a meter event whose entries are now all accepted or carried get their marks (G5).
-- `|| ''` keeps the planner from the index of waiting traces, which it takes for few, and which are all those of a run.
update trace
   set mark_state = 'owed'
 where (project_id, trace_id) in (select project_id, trace_id from entry where meter_event_id = :meter_event_id)
   and mark_state || '' = 'waiting'
   and not exists (select 1 from entry as e left join meter_event as m on m.meter_event_id = e.meter_event_id
                    where e.project_id = trace.project_id and e.trace_id = trace.trace_id
                      and coalesce(m.state, 'open') not in ('accepted', 'carried', 'cancelled'))
