-- held_by_reason: traces that were held before they were billed, by reason; only these are read, by their index.
select reason, count(*) as traces, cast(sum(worth_micros) as bigint) as amount_micros
  from trace where outcome = 'held' group by reason order by reason
