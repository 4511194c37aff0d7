-- usage_models: the models that the billed traces of a period used, as far as observations named them.
select distinct t.project_id, t.trace_id, u.model
  from trace as t
  join unit as u on u.project_id = t.project_id and u.trace_id = t.trace_id
 where t.outcome = 'billed' and t.timestamp_us >= :from_us and t.timestamp_us < :to_us
   and (:customer_id = '' or t.customer_id = :customer_id) and u.model is not null
 order by t.project_id, t.trace_id, u.model
