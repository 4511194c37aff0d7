-- export_traces: traces of a range of time, in its order.
select project_id, trace_id, timestamp_us, outcome, reason, detail, customer_id, found_by, worth_micros, billed_micros,
       waived_micros, cost_usd, duration_s, card_digest, components, name, user_id, session_id, environment, attributes,
       mark_state, mark_written_at_us, mark_problem, generation, read_at_us, deleted_at_us, last_run_id
  from trace
 where timestamp_us >= :from_us and timestamp_us < :until_us
 order by timestamp_us, project_id, trace_id
