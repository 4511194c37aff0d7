-- held_of_customer: what of a customer waits for a person, by kind and reason. The text that is added to a trace's customer keeps
-- it from the index by customer: those that are held or gone are fewer.
select 'trace' as kind, reason, count(*) as waiting, cast(coalesce(sum(worth_micros), 0) as bigint) as amount_micros
  from trace
 where outcome = 'held' and customer_id || '' = :customer_id
 group by reason
 union all
select 'trace' as kind, reason, count(*) as waiting, cast(coalesce(sum(billed_micros), 0) as bigint) as amount_micros
  from trace
 where outcome = 'billed' and reason = 'deleted' and reason <> '' and customer_id || '' = :customer_id
 group by reason
 union all
select 'meter_event' as kind, case state when 'held' then reason else state end as reason, count(*) as waiting,
       cast(sum(credits) * 1000000 as bigint) as amount_micros
  from meter_event
 where customer_id = :customer_id and state in ('held', 'rejected', 'in_doubt')
 group by 1, 2
 order by 1, 2
