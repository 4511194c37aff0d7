-- cancels_held: meter events that some process is asking Stripe to take back, or was when it died.
select meter_event_id, customer_id, meter, attempt, reissue, claimed_by, claimed_until_us
  from meter_event
 where state = 'cancelling'
