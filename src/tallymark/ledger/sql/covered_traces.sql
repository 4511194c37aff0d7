-- covered_traces: the traces in a meter event, with their share of it.
select project_id, trace_id, cast(sum(amount_micros) as bigint) as amount_micros, max(timestamp_us) as timestamp_us
  from entry
 where meter_event_id = :meter_event_id
 group by project_id, trace_id
 order by project_id, trace_id
 limit :limit
