-- claims_held: meter events that some process is sending, or was when it died.
select meter_event_id, attempt, claimed_by, claimed_until_us, unanswered_since_us, answered_at_us
  from meter_event
 where state = 'sending'
