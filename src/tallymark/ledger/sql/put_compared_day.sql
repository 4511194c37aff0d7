-- put_compared_day: what a reconciliation found of a customer, a meter and a day.
insert into compared_day (run_id, day_us, customer_id, meter, langfuse_micros, entries_micros, accepted_micros, stripe_micros,
                          differences)
values (:run_id, :day_us, :customer_id, :meter, :langfuse_micros, :entries_micros, :accepted_micros, :stripe_micros,
        :differences)
