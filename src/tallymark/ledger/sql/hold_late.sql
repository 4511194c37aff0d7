-- hold_late: what was never sent, of a customer and meter, and is too late for its invoice by now, waits for a person.
update meter_event
   set state = 'held', reason = 'late_period'
 where state = 'pending' and customer_id = :customer_id and meter = :meter and unanswered_since_us is null and released_by is null
   and exists (select 1 from period as p
                where p.customer_id = meter_event.customer_id and p.meter = meter_event.meter
                  and ((p.end_us <= :final_us and p.end_us > meter_event.timestamp_s * 1000000)
                       or (p.start_us <= :final_us and p.start_us > meter_event.timestamp_s * 1000000)))
