-- count_held: traces that wait for a person, by reason: held before they were billed, or billed and gone since.
select reason, count(*) as traces, cast(coalesce(sum(amount_micros), 0) as bigint) as amount_micros
  from (select reason, worth_micros as amount_micros from trace where reason <> '' and outcome = 'held'
         union all
        select reason, billed_micros as amount_micros from trace where reason <> '' and outcome = 'billed' and reason = 'deleted') as waiting
 group by reason
 order by reason
