insert into carry (customer_id, meter, amount_micros) values (:customer_id, :meter, :amount_micros)
on conflict (customer_id, meter) do update set amount_micros = excluded.amount_micros
