-- customer_rules: every rule, with the decision that made it.
select r.kind, r.value, r.customer_id, r.decision_id, d.at_us, d.who, d.why
  from customer_rule as r
  join decision as d on d.decision_id = r.decision_id
 order by r.kind, r.value
