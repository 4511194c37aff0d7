-- stored_traces: traces of a period on which a rate card has a word, each once for every observation that is known of it.
-- What was waived or invoiced otherwise was not billed.
select t.project_id, t.trace_id, t.timestamp_us, t.outcome, t.reason, t.detail, t.customer_id,
       t.billed_micros - t.waived_micros as billed_micros, t.card_digest, t.components, t.user_id,
       t.session_id, t.attributes, t.generation, t.root_seen, t.cost_usd as whole_cost_usd,
       t.duration_s as whole_duration_s, u.unit_id, u.cost_usd, u.tokens, u.model, u.problem, u.start_us, u.end_us,
       u.updated_at_us
  from trace as t
  left join unit as u
    on u.project_id = t.project_id and u.trace_id = t.trace_id and t.generation = 'observations'
 where t.timestamp_us >= :from_us and t.timestamp_us < :to_us
   and (t.outcome in ('billed', 'held') or t.reason = 'no_billable_usage')
 order by t.timestamp_us, t.project_id, t.trace_id
