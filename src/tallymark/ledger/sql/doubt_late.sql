-- doubt_late: whether an unanswered send arrived is not tried out by another one once its invoice is final, or Stripe takes
-- its timestamp no more: the answer would not tell.
-- `coalesce` keeps the database from looking at all that is pending.
update meter_event
   set state = 'in_doubt', answer = 'not answered before its invoice was final, or it was too old'
 where unanswered_since_us is not null and coalesce(state, '') in ('pending', 'rejected')
   and (timestamp_s < :oldest_s
        or (released_by is null
            and exists (select 1 from period as p
                         where p.customer_id = meter_event.customer_id and p.meter = meter_event.meter
                           and ((p.end_us <= :final_us and p.end_us > meter_event.timestamp_s * 1000000)
                                or (p.start_us <= :final_us and p.start_us > meter_event.timestamp_s * 1000000)))))
