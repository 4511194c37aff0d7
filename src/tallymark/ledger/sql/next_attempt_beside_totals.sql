-- next_attempt_beside_totals: as next_attempt, where some meters are sent running totals: those of a customer and meter of which
-- another one has no answer are not offered before that is settled.
select min(case when state = 'pending' then next_attempt_at_us else 0 end) as next_attempt_at_us
  from meter_event as m
 where m.state in ('pending', 'sending')
   and not (m.state = 'pending'
            and exists (select 1 from meter_window as w where w.meter = m.meter)
            and exists (select 1 from meter_event as u
                         where u.unanswered_since_us is not null and coalesce(u.state, '') in ('pending', 'rejected')
                           and u.customer_id = m.customer_id and u.meter = m.meter and u.meter_event_id <> m.meter_event_id))
