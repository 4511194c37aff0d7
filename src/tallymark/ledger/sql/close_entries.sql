-- close_entries: lines of a period that no meter event covers yet, of one customer or all. Grouped by what no index holds, so
-- that they are found by the index of those few.
select count(*) as traces, cast(coalesce(sum(amount_micros), 0) as bigint) as amount_micros
  from (select sum(amount_micros) as amount_micros
          from entry
         where meter_event_id is null and timestamp_us >= :from_us and timestamp_us < :to_us
           and (:customer_id = '' or customer_id = :customer_id)
         group by project_id || '/' || trace_id) as uncovered
