-- held_events_by_reason: meter events that wait for a person, by reason; only these are read, by their index.
select reason, count(*) as meter_events, cast(sum(entries_micros) as bigint) as amount_micros
  from meter_event where state = 'held' group by reason order by reason
