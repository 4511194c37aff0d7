-- read_up_to: up to where every source was read and settled; null before the first sync.
select min(to_us) as to_us
  from (select max(to_us) as to_us from coverage where purpose in ('sync', 'sync-filtered') group by source_key) as sources
