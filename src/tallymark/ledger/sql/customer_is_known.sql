-- customer_is_known: whether the ledger has anything of a customer.
select case when exists (select 1 from meter_event where customer_id = :customer_id)
              or exists (select 1 from entry where meter_event_id is null and customer_id = :customer_id)
              or exists (select 1 from trace where outcome = 'held' and customer_id = :customer_id)
            then 1 else 0 end as known
