-- models_used: models whose tokens were seen since a moment, unless the customer's own keys paid for them.
select u.model, count(*) as observations
  from trace as t
  join unit as u on u.project_id = t.project_id and u.trace_id = t.trace_id
 where t.timestamp_us >= :since_us and u.tokens > 0 and t.attributes not like '%"aiCredentialsOwnership":"user"%'
 group by u.model
 order by u.model
