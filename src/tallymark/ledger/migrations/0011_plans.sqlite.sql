-- Plans: what several workers do together, in parts; and readings that each of them stages for itself.
-- Workers need PostgreSQL. Both databases have the same tables, so that a ledger can be copied from one to the other.

create table plan (
    plan_id text primary key,             -- the run that it is
    kind text not null,                   -- backfill, sync
    stage text not null,                  -- read, send, mark; at the end done, failed or cancelled
    from_us integer not null,
    to_us integer,                        -- null for no end: traces from the future, too
    made_at_us integer not null,          -- the moment by which all of its parts decide
    stage_at_us integer not null,         -- when the stage began
    card_digest text not null,            -- the rate card that all of its workers must have
    request text not null,                -- JSON: what was asked
    counts text not null,                 -- JSON: what was counted besides its parts
    problem text not null                 -- why it failed; '' if it did not
) strict;

create index plan_open on plan (made_at_us) where stage not in ('done', 'failed', 'cancelled');

create table plan_part (
    plan_id text not null,
    stage text not null,                  -- read: a window; send: whatever is open; mark: traces by their ids
    number integer not null,
    source_key text not null,             -- '' for all sources
    from_us integer,
    to_us integer,
    after_trace_id text not null,
    through_trace_id text not null,
    state text not null,                  -- open, done, failed
    tries integer not null,               -- how often it went wrong
    problem text not null,                -- why it went wrong last
    counts text not null,                 -- JSON: what it counted
    ended_at_us integer,
    primary key (plan_id, stage, number)
) strict;

create table reading_by_reader (          -- what observations said of a trace that is not decided yet
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
    staged_by text not null default '',   -- the part of a plan that read it, and decides it; '' for no part
    primary key (project_id, staged_by, trace_id)
    -- With a rowid: without, SQLite 3.40 checks columns that are stored in another order as if they were others.
) strict;

insert into reading_by_reader (project_id, trace_id, timestamp_us, root_seen, dated_by_trace, complete, name, user_id,
                               session_id, release, version, environment, public, bookmarked, tags, attributes, marked)
select project_id, trace_id, timestamp_us, root_seen, dated_by_trace, complete, name, user_id, session_id, release,
       version, environment, public, bookmarked, tags, attributes, marked
  from reading;

drop table reading;
alter table reading_by_reader rename to reading;
