-- All that SQLite's migrations 0001 to 0004 make, for PostgreSQL. Text is compared byte by byte, as SQLite does, and every
-- number is a bigint. A test compares the tables of both databases, column by column.
-- Times are microseconds since 1970 UTC (`_us`), amounts are micro-credits (`_micros`). What columns mean stands in 0001 to
-- 0003 for SQLite.

create table schema_version (             -- how many migrations this schema has seen
    version bigint not null
);

create table fact (
    name text collate "C" primary key,
    value text collate "C" not null
);

create table run (
    run_id text collate "C" primary key,
    verb text collate "C" not null,
    started_at_us bigint not null,
    finished_at_us bigint,
    summary text collate "C"
);

create table rate_card (
    digest text collate "C" primary key,
    body text collate "C" not null,
    first_used_at_us bigint not null
);

create table coverage (
    source_key text collate "C" not null,
    purpose text collate "C" not null,
    from_us bigint not null,
    to_us bigint not null,
    primary key (source_key, purpose)
);

create table trace (
    project_id text collate "C" not null,
    trace_id text collate "C" not null,
    timestamp_us bigint not null,
    outcome text collate "C" not null,
    reason text collate "C" not null,
    detail text collate "C" not null,
    result text collate "C" not null,
    first_run_id text collate "C" not null,
    last_run_id text collate "C" not null,
    read_at_us bigint not null,
    decision_digest text collate "C" not null,
    customer_id text collate "C",
    found_by text collate "C",
    worth_micros bigint not null,
    billed_micros bigint not null,
    card_digest text collate "C",
    components text collate "C" not null,
    name text collate "C",
    user_id text collate "C",
    session_id text collate "C",
    release text collate "C",
    version text collate "C",
    environment text collate "C" not null,
    public bigint not null,
    bookmarked bigint not null,
    tags text collate "C" not null,
    attributes text collate "C" not null,
    marked text collate "C" not null,
    mark_state text collate "C" not null,
    mark_written_at_us bigint,
    mark_problem text collate "C",
    generation text collate "C" not null,
    root_seen bigint not null,
    cost_usd text collate "C",
    duration_s text collate "C",
    waived_micros bigint not null default 0,
    deleted_at_us bigint,
    primary key (project_id, trace_id)
);

create index trace_waiting on trace (last_run_id) where mark_state = 'waiting';
create index trace_by_time on trace (timestamp_us);
create index trace_held on trace (project_id, trace_id) where outcome = 'held';
create index trace_marks_owed on trace (project_id, trace_id) where mark_state = 'owed';

create table unit (
    project_id text collate "C" not null,
    trace_id text collate "C" not null,
    unit_id text collate "C" not null,
    cost_usd text collate "C",
    tokens bigint,
    model text collate "C",
    problem text collate "C",
    start_us bigint,
    end_us bigint,
    updated_at_us bigint not null,
    read_at_us bigint not null,
    primary key (project_id, trace_id, unit_id)
);

create table reading (
    project_id text collate "C" not null,
    trace_id text collate "C" not null,
    timestamp_us bigint not null,
    root_seen bigint not null,
    dated_by_trace bigint not null,
    complete bigint not null,
    name text collate "C",
    user_id text collate "C",
    session_id text collate "C",
    release text collate "C",
    version text collate "C",
    environment text collate "C" not null,
    public bigint not null,
    bookmarked bigint not null,
    tags text collate "C" not null,
    attributes text collate "C" not null,
    marked text collate "C" not null,
    primary key (project_id, trace_id)
);

create table score_mark (
    project_id text collate "C" not null,
    trace_id text collate "C" not null,
    run_id text collate "C" not null,
    primary key (project_id, trace_id)
);

create table entry (
    entry_id bigint primary key,
    project_id text collate "C" not null,
    trace_id text collate "C" not null,
    meter text collate "C" not null,
    sequence bigint not null,
    kind text collate "C" not null,
    customer_id text collate "C" not null,
    amount_micros bigint not null,
    timestamp_us bigint not null,
    bucket_start_us bigint not null,
    bucket_end_us bigint not null,
    bucket_key text collate "C" not null,
    card_digest text collate "C" not null,
    components text collate "C" not null,
    run_id text collate "C" not null,
    created_at_us bigint not null,
    meter_event_id text collate "C",
    decision_id bigint,
    digest text collate "C" not null default '',
    unique (project_id, trace_id, meter, sequence)
);

create index entry_open on entry (customer_id, meter, bucket_start_us) where meter_event_id is null;
create index entry_by_meter_event on entry (meter_event_id) where meter_event_id is not null;

create table meter_event (
    meter_event_id text collate "C" primary key,
    customer_id text collate "C" not null,
    meter text collate "C" not null,
    bucket_start_us bigint not null,
    bucket_end_us bigint not null,
    bucket_key text collate "C" not null,
    revision bigint not null,
    timestamp_s bigint not null,
    credits bigint not null,
    entries_micros bigint not null,
    carry_before_micros bigint not null,
    carry_after_micros bigint not null,
    payload text collate "C" not null,
    state text collate "C" not null,
    attempt bigint not null,
    claimed_by text collate "C",
    claimed_until_us bigint,
    next_attempt_at_us bigint not null,
    unanswered_since_us bigint,
    answered_at_us bigint,
    answer text collate "C",
    created_at_us bigint not null,
    run_id text collate "C" not null,
    reason text collate "C" not null default '',
    reissue bigint not null default 0,
    reported_at_us bigint,
    released_by bigint,
    unique (customer_id, meter, bucket_start_us, bucket_end_us, bucket_key, revision)
);

create index meter_event_by_state on meter_event (state, customer_id, meter);
create index meter_event_by_customer on meter_event (customer_id, meter, bucket_start_us);
-- One call in flight for each customer and meter, whoever claims.
create unique index meter_event_in_flight on meter_event (customer_id, meter) where state in ('sending', 'cancelling');

create table attempt (
    meter_event_id text collate "C" not null,
    attempt bigint not null,
    idempotency_key text collate "C" not null,
    sent_at_us bigint not null,
    answered_at_us bigint,
    outcome text collate "C",
    answer text collate "C",
    primary key (meter_event_id, attempt)
);

create table carry (
    customer_id text collate "C" not null,
    meter text collate "C" not null,
    amount_micros bigint not null,
    primary key (customer_id, meter)
);

create table decision (
    decision_id bigint primary key,
    at_us bigint not null,
    who text collate "C" not null,
    verb text collate "C" not null,
    subject_kind text collate "C" not null,
    subject text collate "C" not null,
    amount_micros bigint not null,
    why text collate "C" not null,
    detail text collate "C" not null,
    digest text collate "C" not null
);

create table chain (
    name text collate "C" primary key,
    length bigint not null,
    digest text collate "C" not null
);

insert into chain (name, length, digest) values ('entry', 0, ''), ('decision', 0, '');

create table ruling (
    project_id text collate "C" not null,
    trace_id text collate "C" not null,
    verb text collate "C" not null,
    customer_id text collate "C",
    dated_at_us bigint,
    decision_id bigint not null,
    primary key (project_id, trace_id)
);

create table customer_rule (
    kind text collate "C" not null,
    value text collate "C" not null,
    customer_id text collate "C" not null,
    decision_id bigint not null,
    primary key (kind, value)
);

create table period (
    customer_id text collate "C" not null,
    meter text collate "C" not null,
    item_id text collate "C" not null,
    start_us bigint not null,
    end_us bigint not null,
    read_at_us bigint not null,
    primary key (customer_id, meter, item_id, start_us)
);

create table period_check (
    customer_id text collate "C" not null,
    meter text collate "C" not null,
    read_at_us bigint not null,
    primary key (customer_id, meter)
);

create table notification (
    notification_id text collate "C" primary key,
    type text collate "C" not null,
    object_id text collate "C" not null,
    created_at_us bigint not null,
    received_at_us bigint not null,
    state text collate "C" not null,
    reported bigint not null,
    matched bigint not null,
    body text collate "C" not null
);

create index notification_open on notification (state) where state <> 'applied';

-- Entries and decisions are append-only, their digests included.

create function refuse_edit() returns trigger language plpgsql as $$
begin
    raise exception '%', tg_argv[0];
end
$$;

create trigger entry_is_append_only before update on entry for each row
when (old.meter_event_id is not null
      or (old.entry_id, old.project_id, old.trace_id, old.meter, old.sequence, old.kind, old.customer_id, old.amount_micros,
          old.timestamp_us, old.bucket_start_us, old.bucket_end_us, old.bucket_key, old.card_digest, old.components,
          old.run_id, old.created_at_us, old.decision_id, old.digest)
         is distinct from
         (new.entry_id, new.project_id, new.trace_id, new.meter, new.sequence, new.kind, new.customer_id, new.amount_micros,
          new.timestamp_us, new.bucket_start_us, new.bucket_end_us, new.bucket_key, new.card_digest, new.components,
          new.run_id, new.created_at_us, new.decision_id, new.digest))
execute function refuse_edit('an entry is never edited');

create trigger entry_is_never_deleted before delete on entry for each row
execute function refuse_edit('an entry is never deleted');
create trigger entry_is_never_emptied before truncate on entry execute function refuse_edit('an entry is never deleted');
create trigger decision_is_never_edited before update on decision for each row
execute function refuse_edit('a decision is never edited');
create trigger decision_is_never_deleted before delete on decision for each row
execute function refuse_edit('a decision is never deleted');
create trigger decision_is_never_emptied before truncate on decision
execute function refuse_edit('a decision is never deleted');
