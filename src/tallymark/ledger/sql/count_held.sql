-- count_held: what waits for a person, by reason.
select reason, count(*) as traces, cast(coalesce(sum(worth_micros), 0) as bigint) as worth_micros
  from trace
 where outcome = 'held'
 group by reason
 order by reason
