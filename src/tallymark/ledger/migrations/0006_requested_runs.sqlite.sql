-- Runs that somebody asked a service for; who asked for a run, who runs it, why it failed, and how far it is.

create table run_request (
    request_id text primary key,
    kind text not null,                   -- sync, full, range, trace, reconcile
    trace_id text,
    from_us integer,
    to_us integer,
    dry_run integer not null,
    asked_at_us integer not null,
    asked_by text not null,
    owner text not null,                  -- the process that runs it; '' for none
    lease_until_us integer not null,      -- 0 for none; renewed while it runs
    attempt integer not null,             -- how often it was taken; fences who was given up
    run_id text,                          -- the run of the newest attempt; a dry run is in no other table
    started_at_us integer,
    finished_at_us integer,               -- whether it worked or not; then it is taken no more
    problem text not null,                -- why it failed; '' if it worked
    summary text                          -- the object that --json prints
) strict;

create index run_request_open on run_request (asked_at_us) where finished_at_us is null;
create index run_request_by_time on run_request (asked_at_us, request_id);
create index run_request_by_run on run_request (run_id);

create table run_progress (               -- of runs that a service runs now
    run_id text primary key,
    stage text not null,                  -- read, send, mark, compare
    stage_at_us integer not null,         -- when the stage began
    done integer not null,
    total integer,                        -- null if it is not known
    told_at_us integer not null
) strict;

alter table run add column asked_by text not null default '';   -- '' by hand
alter table run add column owner text not null default '';      -- the process; '' before this was kept
alter table run add column problem text not null default '';    -- why it failed, if a service ran it
alter table job add column run_id text;                         -- of the newest run

create index run_by_time on run (started_at_us, run_id);

-- Meter events by the usage that they cover, for lists.
create index meter_event_by_time on meter_event (bucket_start_us, meter_event_id);

-- What was sent today and this month.
create index meter_event_by_answer on meter_event (answered_at_us, credits) where state = 'accepted';

-- What is held, added up without reading the traces.
create index trace_held_worth on trace (reason, timestamp_us, worth_micros) where outcome = 'held';
