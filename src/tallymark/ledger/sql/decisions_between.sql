-- decisions_between: what was decided, the newest first, from one number to another.
select decision_id, at_us, who, verb, subject_kind, subject, amount_micros, why, detail
  from decision
 where decision_id >= :first and decision_id <= :last
 order by decision_id desc
 limit :limit
