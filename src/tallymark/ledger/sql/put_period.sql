-- put_period: a billing period as Stripe has it; its end may have moved.
insert into period (customer_id, meter, item_id, start_us, end_us, read_at_us)
values (:customer_id, :meter, :item_id, :start_us, :end_us, :read_at_us)
on conflict (customer_id, meter, item_id, start_us) do update
   set end_us = excluded.end_us, read_at_us = excluded.read_at_us
