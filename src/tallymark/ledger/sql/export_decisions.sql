-- export_decisions: decisions that were made in a range of time, in the order of their numbers.
select decision_id, at_us, who, verb, subject_kind, subject, amount_micros, why, detail, digest
  from decision
 where at_us >= :from_us and at_us < :until_us
 order by decision_id
