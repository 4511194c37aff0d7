-- count_stored_traces: how many traces stored_traces gives.
select count(*) as traces
  from trace
 where timestamp_us >= :from_us and timestamp_us < :to_us
   and (outcome in ('billed', 'held') or reason = 'no_billable_usage')
