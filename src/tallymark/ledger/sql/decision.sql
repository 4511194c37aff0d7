-- decision: one decision.
select decision_id, at_us, who, verb, subject_kind, subject, amount_micros, why, detail
  from decision
 where decision_id = :decision_id
