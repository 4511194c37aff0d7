-- periods_of: the billing periods that are known of a customer for a meter.
select item_id, start_us, end_us
  from period
 where customer_id = :customer_id and meter = :meter
 order by start_us, item_id
