-- usage_components: what the billed traces of a period rest on, to sum cost and revenue exactly in Decimal.
select t.customer_id, t.timestamp_us, t.billed_micros, t.card_digest, t.components, coalesce(u.model, '') as model
  from trace as t
  left join unit as u on u.project_id = t.project_id and u.trace_id = t.trace_id and u.unit_id = ''
 where t.outcome = 'billed' and t.timestamp_us >= :from_us and t.timestamp_us < :to_us
   and (:customer_id = '' or t.customer_id = :customer_id)
