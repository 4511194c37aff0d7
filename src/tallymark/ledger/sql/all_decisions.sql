-- all_decisions: every decision in the order of its number.
select decision_id, at_us, who, verb, subject_kind, subject, amount_micros, why, detail, digest
  from decision
 order by decision_id
