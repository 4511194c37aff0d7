-- delete_customer_rule: a rule is withdrawn; what was billed by it stays.
delete from customer_rule where kind = :kind and value = :value
