-- leaked_traces: traces of before a moment that are worth something nobody is billed for, by why; of unpriced and unrated ones it
-- is not known how much. The sum keeps it from the index by time: those that are held are fewer.
select reason, count(*) as traces, cast(sum(worth_micros) as bigint) as amount_micros
  from trace
 where outcome = 'held' and reason in ('no_customer', 'unpriced', 'unrated') and timestamp_us + 0 < :before_us
 group by reason
 order by reason
