-- put_usage_sum: what traces of a customer and a day come to.
insert into usage_sum (day_us, customer_id, flow, model, traces, billed_micros, waived_micros, first_us, last_us, read_at_us,
                       cost_usd, revenue_usd, components)
values (:day_us, :customer_id, :flow, :model, :traces, :billed_micros, :waived_micros, :first_us, :last_us, :read_at_us,
        :cost_usd, :revenue_usd, :components)
