-- customer_traces: the billed traces of a customer in a range of time, the newest first, with what they came to, once for each
-- observation that names a model. What was waived by a decision is not charged.
select t.project_id, t.trace_id, t.timestamp_us, t.name, t.billed_micros, t.card_digest, t.components,
       t.read_at_us, t.waived_micros, u.model
  from (select project_id, trace_id, timestamp_us, name, billed_micros, card_digest, components, read_at_us,
               case when waived_micros = 0 then 0
                    else (select cast(coalesce(sum(-e.amount_micros), 0) as bigint) from entry as e
                           where e.project_id = trace.project_id and e.trace_id = trace.trace_id and e.kind = 'waiver')
               end as waived_micros
          from trace
         where customer_id = :customer_id and outcome = 'billed' and timestamp_us >= :from_us and timestamp_us < :to_us
           and (timestamp_us < :at_us or (project_id, trace_id) > (:after_project, :after_trace))
         order by timestamp_us desc, project_id, trace_id
         limit :limit) as t
  left join unit as u on u.project_id = t.project_id and u.trace_id = t.trace_id and u.model is not null
 order by t.timestamp_us desc, t.project_id, t.trace_id, u.model
