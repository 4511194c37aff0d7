-- count_open: meter events that are not settled.
select state, count(*) as meter_events
  from meter_event
 where state in ('pending', 'sending', 'streamed', 'cancelling', 'rejected', 'in_doubt', 'held')
 group by state
