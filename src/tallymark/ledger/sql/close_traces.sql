-- close_traces: traces of a period that wait for a person, by why: held before they were billed; billed and gone since; billed,
-- and read again with a part that cannot be (part is 1; what that is worth is not known). One without a customer may be anybody's.
-- The sum keeps the first part from the index by time: those that are held are fewer.
select why, part, count(*) as traces, cast(coalesce(sum(amount_micros), 0) as bigint) as amount_micros
  from (select reason as why, 0 as part, worth_micros as amount_micros
          from trace
         where outcome = 'held' and timestamp_us + 0 >= :from_us and timestamp_us + 0 < :to_us
           and (:customer_id = '' or customer_id is null or customer_id = :customer_id)
         union all
        select case when reason = 'deleted' then reason else result end as why,
               case when reason = 'deleted' then 0 else 1 end as part,
               case when reason = 'deleted' then billed_micros else 0 end as amount_micros
          from trace
         where outcome = 'billed' and timestamp_us >= :from_us and timestamp_us < :to_us
           and (reason = 'deleted' or result in ('no_customer', 'unrated', 'unpriced'))
           and (:customer_id = '' or customer_id = :customer_id)) as waiting
 group by why, part
 order by why, part
