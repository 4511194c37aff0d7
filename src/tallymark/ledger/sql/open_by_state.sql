-- open_by_state: meter events that are not settled, and their credits, by state.
select state, count(*) as meter_events, cast(sum(credits) as bigint) as credits
  from meter_event
 where state in ('pending', 'sending', 'streamed', 'cancelling', 'rejected', 'in_doubt', 'held')
 group by state
