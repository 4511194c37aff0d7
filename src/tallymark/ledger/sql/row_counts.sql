-- row_counts: how many rows a check is going to read, for its progress.
select (select count(*) from entry) as entries, (select count(*) from decision) as decisions,
       (select count(*) from meter_event) as meter_events, (select count(*) from trace) as traces
