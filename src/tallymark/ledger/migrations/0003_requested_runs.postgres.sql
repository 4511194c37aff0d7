-- Runs that somebody asked a service for; who asked for a run, who runs it, why it failed, and how far it is.

create table run_request (
    request_id text collate "C" primary key,
    kind text collate "C" not null,
    trace_id text collate "C",
    from_us bigint,
    to_us bigint,
    dry_run bigint not null,
    asked_at_us bigint not null,
    asked_by text collate "C" not null,
    owner text collate "C" not null,
    lease_until_us bigint not null,
    attempt bigint not null,
    run_id text collate "C",
    started_at_us bigint,
    finished_at_us bigint,
    problem text collate "C" not null,
    summary text collate "C"
);

create index run_request_open on run_request (asked_at_us) where finished_at_us is null;
create index run_request_by_time on run_request (asked_at_us, request_id);
create index run_request_by_run on run_request (run_id);

create table run_progress (
    run_id text collate "C" primary key,
    stage text collate "C" not null,
    stage_at_us bigint not null,
    done bigint not null,
    total bigint,
    told_at_us bigint not null
);

alter table run add column asked_by text collate "C" not null default '';
alter table run add column owner text collate "C" not null default '';
alter table run add column problem text collate "C" not null default '';
alter table job add column run_id text collate "C";

create index run_by_time on run (started_at_us, run_id);

-- Meter events by the usage that they cover, for lists.
create index meter_event_by_time on meter_event (bucket_start_us, meter_event_id);

-- What was sent today and this month.
create index meter_event_by_answer on meter_event (answered_at_us, credits) where state = 'accepted';

-- What is held, added up without reading the traces.
create index trace_held_worth on trace (reason, timestamp_us, worth_micros) where outcome = 'held';
