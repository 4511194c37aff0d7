-- usage_components: what the billed traces of a period rest on, to sum cost and revenue exactly in Decimal.
select t.customer_id, t.timestamp_us, t.billed_micros, t.card_digest, t.components, '' as model
  from trace as t
 where t.outcome = 'billed' and t.timestamp_us >= :from_us and t.timestamp_us < :to_us
   and (:customer_id = '' or t.customer_id = :customer_id)
