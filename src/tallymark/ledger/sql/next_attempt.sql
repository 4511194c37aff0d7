-- next_attempt: when the next pending meter event may be offered; one that another process is sending may be soon.
select min(case when state = 'pending' then next_attempt_at_us else 0 end) as next_attempt_at_us
  from meter_event
 where state in ('pending', 'sending')
