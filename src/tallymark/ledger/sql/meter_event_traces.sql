-- meter_event_traces: the traces of a meter event with their part of it, in order, behind one of them.
select entry.project_id, entry.trace_id, cast(sum(entry.amount_micros) as bigint) as amount_micros,
       max(entry.timestamp_us) as timestamp_us, max(trace.name) as name
  from entry
  left join trace on trace.project_id = entry.project_id and trace.trace_id = entry.trace_id
 where entry.meter_event_id = :meter_event_id
   and (entry.project_id, entry.trace_id) > (:after_project, :after_trace)
 group by entry.project_id, entry.trace_id
 order by entry.project_id, entry.trace_id
 limit :limit
