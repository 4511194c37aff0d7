-- failures: traces of a run whose money is neither accepted nor waits for a person, and the meter's last answer.
select t.trace_id, m.state, m.answer
  from trace as t
  join entry as e on e.project_id = t.project_id and e.trace_id = t.trace_id
  left join meter_event as m on m.meter_event_id = e.meter_event_id
 where t.last_run_id = :run_id and t.result = 'processed' and t.mark_state = 'waiting'
   and coalesce(m.state, 'open') not in ('accepted', 'carried', 'streamed', 'in_doubt', 'cancelled')
   and coalesce(m.reason, '') not in ('late_period', 'too_old', 'window_cut')
 order by t.trace_id
 limit :limit
