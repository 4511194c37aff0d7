-- unbilled_by_age: what is not billed, by the age of its usage; what waits needs a person or Stripe's word.
select age, waits, cast(sum(amount_micros) as bigint) as amount_micros
  from (select case when timestamp_us > :hour_us then 0 when timestamp_us > :day_us then 1
                    when timestamp_us > :week_us then 2 else 3 end as age,
               waits, amount_micros
          from (select timestamp_us, 0 as waits, amount_micros from entry where meter_event_id is null
                 union all
                select timestamp_s * 1000000 as timestamp_us,
                       case when state in ('pending', 'sending', 'streamed') then 0 else 1 end as waits,
                       credits * 1000000 as amount_micros
                  from meter_event
                 where state in ('pending', 'sending', 'streamed', 'rejected', 'in_doubt', 'held')
                 union all
                select timestamp_us, 1 as waits, worth_micros as amount_micros from trace where outcome = 'held') as open
       ) as aged
 group by age, waits
