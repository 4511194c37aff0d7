-- results_of_run: traces from a time on that a run read last, by what became of them.
select result, count(*) as traces
  from trace
 where timestamp_us >= :from_us and last_run_id = :run_id
 group by result
