-- put_trace: store the newest reading of a trace and what was decided. Money columns only ever come from its entries. The
-- time of a trace that was billed stays: its entries lie there.
insert into trace (project_id, trace_id, timestamp_us, outcome, reason, detail, result, first_run_id, last_run_id, read_at_us,
                   decision_digest, customer_id, found_by, worth_micros, billed_micros, card_digest, components, name, user_id,
                   session_id, release, version, environment, public, bookmarked, tags, attributes, marked, mark_state,
                   generation, root_seen, cost_usd, duration_s)
values (:project_id, :trace_id, :timestamp_us, :outcome, :reason, :detail, :result, :run_id, :run_id, :now_us,
        :decision_digest, :customer_id, :found_by, :worth_micros, :billed_micros, :card_digest, :components, :name, :user_id,
        :session_id, :release, :version, :environment, :public, :bookmarked, :tags, :attributes, :marked, :mark_state,
        :generation, :root_seen, :cost_usd, :duration_s)
on conflict (project_id, trace_id) do update
   set timestamp_us = case trace.outcome when 'billed' then trace.timestamp_us else excluded.timestamp_us end,
       outcome = excluded.outcome, reason = excluded.reason, detail = excluded.detail, result = excluded.result,
       last_run_id = excluded.last_run_id, read_at_us = excluded.read_at_us, decision_digest = excluded.decision_digest,
       customer_id = excluded.customer_id, found_by = excluded.found_by, worth_micros = excluded.worth_micros,
       billed_micros = excluded.billed_micros, card_digest = excluded.card_digest, components = excluded.components,
       name = excluded.name, user_id = excluded.user_id, session_id = excluded.session_id, release = excluded.release,
       version = excluded.version, environment = excluded.environment, public = excluded.public,
       bookmarked = excluded.bookmarked, tags = excluded.tags, attributes = excluded.attributes, marked = excluded.marked,
       mark_state = excluded.mark_state, generation = excluded.generation, root_seen = excluded.root_seen,
       cost_usd = excluded.cost_usd, duration_s = excluded.duration_s, deleted_at_us = null
