-- Entries and decisions are append-only, their digests included.

create trigger entry_is_append_only before update on entry
when old.meter_event_id is not null
  or old.entry_id <> new.entry_id or old.project_id <> new.project_id or old.trace_id <> new.trace_id
  or old.meter <> new.meter or old.sequence <> new.sequence or old.kind <> new.kind
  or old.customer_id <> new.customer_id or old.amount_micros <> new.amount_micros
  or old.timestamp_us <> new.timestamp_us or old.bucket_start_us <> new.bucket_start_us
  or old.bucket_end_us <> new.bucket_end_us or old.bucket_key <> new.bucket_key
  or old.card_digest <> new.card_digest or old.components <> new.components
  or old.run_id <> new.run_id or old.created_at_us <> new.created_at_us
  or old.decision_id is not new.decision_id or old.digest <> new.digest
begin
    select raise(abort, 'an entry is never edited');
end;

create trigger entry_is_never_deleted before delete on entry
begin
    select raise(abort, 'an entry is never deleted');
end;

create trigger decision_is_never_edited before update on decision
begin
    select raise(abort, 'a decision is never edited');
end;

create trigger decision_is_never_deleted before delete on decision
begin
    select raise(abort, 'a decision is never deleted');
end;
