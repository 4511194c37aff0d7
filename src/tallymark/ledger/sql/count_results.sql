-- count_results: how the traces that a run read end. Money that is not accepted yet makes a trace failed or in doubt.
select result, money, count(*) as traces
  from (select t.result,
               case when t.result <> 'processed' then ''
                    when t.mark_state <> 'waiting' then 'accepted'
                    when exists (select 1 from entry as e join meter_event as m on m.meter_event_id = e.meter_event_id
                                  where e.project_id = t.project_id and e.trace_id = t.trace_id and m.state = 'in_doubt')
                    then 'in_doubt'
                    else 'open' end as money
          from trace as t
         where t.last_run_id = :run_id) as results
 group by result, money
