-- traces_read_whole: how many traces since a moment were read through the trace list, which does not tell tokens.
select count(*) as traces from trace 
 where timestamp_us >= :since_us and generation = 'traces' and outcome in ('billed', 'held')
