-- unpaid: traces that a run was the last to read and whose money is not accepted yet: in doubt, streamed, held for a reason,
-- or open, which makes them failed.
select money, count(*) as traces
  from (select case when exists (select 1 from entry as e join meter_event as m on m.meter_event_id = e.meter_event_id
                                  where e.project_id = t.project_id and e.trace_id = t.trace_id and m.state = 'in_doubt')
                    then 'in_doubt'
                    when not exists (select 1 from entry as e left join meter_event as m on m.meter_event_id = e.meter_event_id
                                      where e.project_id = t.project_id and e.trace_id = t.trace_id
                                        and coalesce(m.state, 'open') not in ('streamed', 'accepted', 'carried', 'cancelled'))
                    then 'streamed'
                    else coalesce((select max(m.reason) from entry as e join meter_event as m on m.meter_event_id = e.meter_event_id
                                    where e.project_id = t.project_id and e.trace_id = t.trace_id and m.state = 'held'), 'open')
               end as money
          from trace as t
         where t.last_run_id = :run_id and t.result = 'processed' and t.mark_state = 'waiting') as unpaid
 group by money
