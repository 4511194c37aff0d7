-- decisions: what was decided, the newest first.
select decision_id, at_us, who, verb, subject_kind, subject, amount_micros, why, detail
  from decision
 order by decision_id desc
 limit :limit
