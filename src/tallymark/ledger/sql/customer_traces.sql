-- customer_traces: the billed traces of a customer in a range of time, the newest first, with what they came to. What was
-- waived by a decision is not charged.
select t.project_id, t.trace_id, t.timestamp_us, t.name, t.billed_micros, t.components, t.read_at_us,
       case when t.waived_micros = 0 then 0
            else (select cast(coalesce(sum(-e.amount_micros), 0) as bigint) from entry as e
                   where e.project_id = t.project_id and e.trace_id = t.trace_id and e.kind = 'waiver') end as waived_micros
  from trace as t
 where t.customer_id = :customer_id and t.outcome = 'billed' and t.timestamp_us >= :from_us and t.timestamp_us < :to_us
 order by t.timestamp_us desc, t.project_id, t.trace_id
 limit :limit
