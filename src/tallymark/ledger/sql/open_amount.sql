-- open_amount: what is in no meter event yet.
select cast(coalesce(sum(amount_micros), 0) as bigint) as amount_micros from entry where meter_event_id is null
