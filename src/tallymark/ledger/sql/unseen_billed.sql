-- unseen_billed: what was billed for traces of a range that a run, which read all of it, did not see.
select t.trace_id, e.customer_id, e.meter, t.timestamp_us - t.timestamp_us % :width_us as window_us,
       cast(sum(e.amount_micros) as bigint) as amount_micros
  from trace as t
  join entry as e on e.project_id = t.project_id and e.trace_id = t.trace_id
 where t.timestamp_us >= :from_us and t.timestamp_us < :to_us and t.outcome = 'billed' and t.last_run_id <> :run_id
   and e.kind in ('charge', 'adjustment')
 group by 1, 2, 3, 4
having sum(e.amount_micros) <> 0
 order by 4, 1
