-- Rows of traces, units and readings lie in the order in which they came, and a small index finds them: keyed by their random
-- ids, the wide rows of one batch rewrote most pages of the table (docs/adr/0020).
-- The usage of a trace that was read whole is a part of its row, and no unit of its own.

drop index trace_waiting;
drop index trace_by_time;
drop index trace_held;
drop index trace_marks_owed;
alter table trace rename to trace_before;

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
    cost_usd text,                        -- exact decimal, of a trace that was read whole; null is unknown
    duration_s text,
    primary key (project_id, trace_id)
) strict;

insert into trace
select t.*, u.cost_usd, u.duration_s
  from trace_before as t
  left join unit as u on u.project_id = t.project_id and u.trace_id = t.trace_id and u.unit_id = '';

drop table trace_before;

create index trace_waiting on trace (last_run_id) where mark_state = 'waiting';
create index trace_by_time on trace (timestamp_us);
create index trace_held on trace (project_id, trace_id) where outcome = 'held';
create index trace_marks_owed on trace (project_id, trace_id) where mark_state = 'owed';

alter table unit rename to unit_before;

create table unit (                       -- the observations of traces that were read by observation
    project_id text not null,
    trace_id text not null,
    unit_id text not null,
    cost_usd text,                        -- exact decimal; null is unknown
    tokens integer,
    model text,
    problem text,
    start_us integer,
    end_us integer,
    updated_at_us integer not null,       -- of two versions of a unit, the newer counts
    read_at_us integer not null,
    primary key (project_id, trace_id, unit_id)
) strict;

insert into unit
select project_id, trace_id, unit_id, cost_usd, tokens, model, problem, start_us, end_us, updated_at_us, read_at_us
  from unit_before
 where unit_id <> '';

drop table unit_before;

-- Entries are covered when their bucket is gathered; until then this index has nothing to hold.
drop index entry_by_meter_event;
create index entry_by_meter_event on entry (meter_event_id) where meter_event_id is not null;
