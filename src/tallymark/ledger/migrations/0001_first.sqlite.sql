-- The first schema. Types are TEXT and 64-bit integers only, so that the same statements serve PostgreSQL.
-- Times are microseconds since 1970 UTC (`_us`), amounts are micro-credits (`_micros`).

create table fact (                       -- about the ledger itself: its id, checks done
    name text primary key,
    value text not null
) strict;

create table run (
    run_id text primary key,
    verb text not null,                   -- sync, backfill
    started_at_us integer not null,
    finished_at_us integer,
    summary text                          -- the object that --json prints
) strict;

create table rate_card (
    digest text primary key,
    body text not null,
    first_used_at_us integer not null
) strict;

create table coverage (                   -- what was read and settled, and need not be read again
    source_key text not null,
    purpose text not null,                -- sync, sync-filtered, backfill
    from_us integer not null,
    to_us integer not null,
    primary key (source_key, purpose)
) strict;

create table trace (
    project_id text not null,
    trace_id text not null,
    timestamp_us integer not null,
    outcome text not null,                -- billed, skipped, held
    reason text not null,                 -- '' when billed
    detail text not null,
    result text not null,                 -- how the last run that read it counts it
    first_run_id text not null,
    last_run_id text not null,
    read_at_us integer not null,
    decision_digest text not null,
    customer_id text,
    found_by text,
    worth_micros integer not null,        -- what it is worth by the rate card, billed or not
    billed_micros integer not null,       -- the sum of its entries
    card_digest text,
    components text not null,             -- JSON: the formula and exact amount of each component
    name text,
    user_id text,
    session_id text,
    release text,
    version text,
    environment text not null,
    public integer not null,
    bookmarked integer not null,
    tags text not null,                   -- JSON: only the two billing tags
    attributes text not null,             -- JSON: only the metadata that billing reads
    marked text not null,                 -- what it carried when last read: '', tag, metadata, score, joined by commas
    mark_state text not null,             -- '' no money, waiting, owed, written, refused
    mark_written_at_us integer,
    mark_problem text,
    generation text not null,             -- traces or observations: what its usage was last read through
    root_seen integer not null,           -- 0 while the observation that may name the customer has not arrived
    primary key (project_id, trace_id)
) strict, without rowid;

create index trace_waiting on trace (last_run_id) where mark_state = 'waiting';
create index trace_by_time on trace (timestamp_us);
create index trace_held on trace (project_id, trace_id) where outcome = 'held';
create index trace_marks_owed on trace (project_id, trace_id) where mark_state = 'owed';

create table unit (
    project_id text not null,
    trace_id text not null,
    unit_id text not null,                -- '' when the whole trace is one unit
    cost_usd text,                        -- exact decimal; null is unknown
    duration_s text,
    tokens integer,
    model text,
    problem text,
    start_us integer,
    end_us integer,
    updated_at_us integer not null,       -- of two versions of a unit, the newer counts
    read_at_us integer not null,
    primary key (project_id, trace_id, unit_id)
) strict, without rowid;

create table reading (                    -- what observations said of a trace that is not decided yet
    project_id text not null,
    trace_id text not null,
    timestamp_us integer not null,
    root_seen integer not null,
    dated_by_trace integer not null,
    complete integer not null,            -- 1 when all observations of the trace were asked for
    name text,
    user_id text,
    session_id text,
    release text,
    version text,
    environment text not null,
    public integer not null,
    bookmarked integer not null,
    tags text not null,
    attributes text not null,
    marked text not null,
    primary key (project_id, trace_id)
) strict, without rowid;

create table score_mark (                 -- traces that carry the score of a mark, as far as the server was asked
    project_id text not null,
    trace_id text not null,
    run_id text not null,
    primary key (project_id, trace_id)
) strict, without rowid;

create table entry (
    entry_id integer primary key,
    project_id text not null,
    trace_id text not null,
    meter text not null,                  -- the meter's event name
    sequence integer not null,            -- 0 is the charge, 1 and up its adjustments
    kind text not null,                   -- charge, adjustment
    customer_id text not null,
    amount_micros integer not null,
    timestamp_us integer not null,        -- when the usage was
    bucket_start_us integer not null,
    bucket_end_us integer not null,
    bucket_key text not null,             -- '' or the project and trace, in trace buckets
    card_digest text not null,
    components text not null,
    run_id text not null,
    created_at_us integer not null,
    meter_event_id text,                  -- set once, when the bucket is gathered
    unique (project_id, trace_id, meter, sequence)
) strict;

create index entry_open on entry (customer_id, meter, bucket_start_us) where meter_event_id is null;
create index entry_by_meter_event on entry (meter_event_id);

create trigger entry_is_append_only before update on entry
when old.meter_event_id is not null
  or old.entry_id <> new.entry_id or old.project_id <> new.project_id or old.trace_id <> new.trace_id
  or old.meter <> new.meter or old.sequence <> new.sequence or old.kind <> new.kind
  or old.customer_id <> new.customer_id or old.amount_micros <> new.amount_micros
  or old.timestamp_us <> new.timestamp_us or old.bucket_start_us <> new.bucket_start_us
  or old.bucket_end_us <> new.bucket_end_us or old.bucket_key <> new.bucket_key
  or old.card_digest <> new.card_digest or old.components <> new.components
begin
    select raise(abort, 'an entry is never edited');
end;

create trigger entry_is_never_deleted before delete on entry
begin
    select raise(abort, 'an entry is never deleted');
end;

create table meter_event (
    meter_event_id text primary key,      -- the identifier that Stripe gets
    customer_id text not null,
    meter text not null,
    bucket_start_us integer not null,
    bucket_end_us integer not null,
    bucket_key text not null,
    revision integer not null,            -- the n-th gathering of this bucket
    timestamp_s integer not null,         -- lies in the bucket
    credits integer not null,             -- whole; 0 only when carried
    entries_micros integer not null,
    carry_before_micros integer not null,
    carry_after_micros integer not null,
    payload text not null,                -- JSON, as sent
    state text not null,                  -- pending, sending, accepted, rejected, in_doubt, cancelled, carried
    attempt integer not null,
    claimed_by text,
    claimed_until_us integer,
    next_attempt_at_us integer not null,
    unanswered_since_us integer,          -- the first send whose answer we do not know
    answered_at_us integer,
    answer text,
    created_at_us integer not null,
    run_id text not null,
    unique (customer_id, meter, bucket_start_us, bucket_end_us, bucket_key, revision)
) strict;

create index meter_event_open on meter_event (state, customer_id, meter) where state in ('pending', 'sending', 'rejected', 'in_doubt');
create index meter_event_by_customer on meter_event (customer_id, meter, bucket_start_us);

create table attempt (
    meter_event_id text not null,
    attempt integer not null,
    idempotency_key text not null,
    sent_at_us integer not null,
    answered_at_us integer,
    outcome text,                         -- accepted, duplicate, rejected, throttled, unknown; null: no answer stored
    answer text,
    primary key (meter_event_id, attempt)
) strict, without rowid;

create table carry (
    customer_id text not null,
    meter text not null,
    amount_micros integer not null,
    primary key (customer_id, meter)
) strict, without rowid;
