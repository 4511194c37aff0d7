-- put_decision: one line of what was decided about money.
insert into decision (decision_id, at_us, who, verb, subject_kind, subject, amount_micros, why, detail, digest)
values (:decision_id, :at_us, :who, :verb, :subject_kind, :subject, :amount_micros, :why, :detail, :digest)
