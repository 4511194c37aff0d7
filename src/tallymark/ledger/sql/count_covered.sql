-- count_covered: how many traces are in a meter event.
select count(*) as traces
  from (select 1 as covered from entry where meter_event_id = :meter_event_id group by project_id, trace_id) as each_trace
