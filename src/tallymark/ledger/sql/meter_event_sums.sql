-- meter_event_sums: each meter event with what its gathered entries come to, and those that a decision took back, and its
-- attempts; `window_s` if its meter is sent running totals.
select m.meter_event_id, m.customer_id, m.meter, m.bucket_start_us, m.bucket_end_us, m.bucket_key, m.revision, m.timestamp_s,
       m.credits, m.entries_micros, m.carry_before_micros, m.carry_after_micros, m.state, m.attempt,
       coalesce(e.covered_micros, 0) - coalesce(e.taken_back_micros, 0) as gathered_micros,
       coalesce(e.taken_back_micros, 0) as taken_back_micros, coalesce(a.attempts, 0) as attempts,
       coalesce(a.first_attempt, 1) as first_attempt, coalesce(a.last_attempt, 0) as last_attempt, w.window_s
  from meter_event as m
  left join meter_window as w on w.meter = m.meter
  left join (select meter_event_id, cast(sum(amount_micros) as bigint) as covered_micros,
                    cast(sum(case when kind in ('reversal', 'waiver', 'invoiced') and decision_id is not null then amount_micros
                                  else 0 end) as bigint) as taken_back_micros
               from entry
              where meter_event_id is not null
              group by meter_event_id) as e on e.meter_event_id = m.meter_event_id
  left join (select meter_event_id, count(*) as attempts, min(attempt) as first_attempt, max(attempt) as last_attempt
               from attempt
              group by meter_event_id) as a on a.meter_event_id = m.meter_event_id
 order by m.customer_id, m.meter, m.bucket_start_us, m.meter_event_id
