-- is_used: whether anything was ever recorded in this ledger.
select case when exists (select 1 from trace) or exists (select 1 from entry) or exists (select 1 from meter_event)
              or exists (select 1 from decision) or exists (select 1 from run) or exists (select 1 from reading)
              or exists (select 1 from job)
            then 1 else 0 end as used
