-- Traces are looked for by customer and user; what is skipped, held or gone is few among many; decisions by their subject.

create index trace_by_user on trace (user_id, timestamp_us) where user_id is not null;
create index trace_set_aside on trace (outcome, timestamp_us, reason) where reason <> '';
create index decision_by_subject on decision (subject);
