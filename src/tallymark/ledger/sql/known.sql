-- known: what the ledger knows of a batch of traces, named by a JSON list of [project_id, trace_id].
select t.project_id, t.trace_id, t.timestamp_us, t.outcome, t.reason, t.detail, t.result, t.last_run_id, t.decision_digest,
       t.customer_id, t.found_by, t.worth_micros, t.billed_micros, t.components, t.attributes, t.mark_state, t.mark_written_at_us,
       t.cost_usd, t.duration_s, t.card_digest, t.generation, t.waived_micros
  from json_each(:keys) as k
  join trace as t on t.project_id = json_extract(k.value, '$[0]') and t.trace_id = json_extract(k.value, '$[1]')
