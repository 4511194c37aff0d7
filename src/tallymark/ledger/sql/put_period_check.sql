-- put_period_check: a customer's subscription items were read, found or not.
insert into period_check (customer_id, meter, read_at_us) values (:customer_id, :meter, :read_at_us)
on conflict (customer_id, meter) do update set read_at_us = excluded.read_at_us
