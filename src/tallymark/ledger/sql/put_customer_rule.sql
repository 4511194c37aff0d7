-- put_customer_rule: whom to bill for all traces of a user, organization or session.
insert into customer_rule (kind, value, customer_id, decision_id) values (:kind, :value, :customer_id, :decision_id)
on conflict (kind, value) do update set customer_id = excluded.customer_id, decision_id = excluded.decision_id
