-- decisions_of: what was decided about one subject.
select decision_id, at_us, who, verb, subject_kind, subject, amount_micros, why, detail
  from decision
 where subject = :subject
 order by decision_id
