-- put_carry: what is left over for a customer and meter from now on.
insert into carry (customer_id, meter, amount_micros) values (:customer_id, :meter, :amount_micros)
on conflict (customer_id, meter) do update set amount_micros = excluded.amount_micros
