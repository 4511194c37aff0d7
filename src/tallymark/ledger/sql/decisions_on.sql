-- decisions_on: what was decided about a meter event, in order.
select decision_id, at_us, who, verb, why, detail
  from decision
 where subject_kind = 'meter_event' and subject = :subject
 order by decision_id
