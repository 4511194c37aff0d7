-- decision: one decision.
select decision_id, at_us, who, verb, why, detail from decision where decision_id = :decision_id
