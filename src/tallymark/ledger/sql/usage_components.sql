-- usage_components: what the billed traces of a period rest on, to sum cost and revenue exactly in Decimal. What was waived
-- is no revenue; what an invoice item billed is.
select t.project_id, t.trace_id, t.customer_id, t.timestamp_us, t.name, t.billed_micros, t.card_digest, t.components,
       case when t.waived_micros = 0 then 0
            else (select cast(coalesce(sum(-e.amount_micros), 0) as bigint) from entry as e
                   where e.project_id = t.project_id and e.trace_id = t.trace_id and e.kind = 'waiver') end as waived_micros
  from trace as t
 where t.outcome = 'billed' and t.timestamp_us >= :from_us and t.timestamp_us < :to_us
   and (:customer_id = '' or t.customer_id = :customer_id)
