-- entry_places: each entry beside what it names: its trace, its meter event, its rate card and its decision.
select e.entry_id, e.kind, e.amount_micros, e.timestamp_us, e.bucket_start_us, e.bucket_end_us, e.card_digest, e.meter_event_id, e.decision_id,
       t.trace_id as trace_found, r.digest as card_found, d.decision_id as decision_found, m.meter_event_id as meter_event_found,
       case when m.customer_id = e.customer_id and m.meter = e.meter and m.bucket_key = e.bucket_key
             and m.bucket_start_us <= e.timestamp_us and e.timestamp_us < m.bucket_end_us then 1 else 0 end as place_agrees
  from entry as e
  left join trace as t on t.project_id = e.project_id and t.trace_id = e.trace_id
  left join rate_card as r on r.digest = e.card_digest
  left join decision as d on d.decision_id = e.decision_id
  left join meter_event as m on m.meter_event_id = e.meter_event_id
 order by e.entry_id
