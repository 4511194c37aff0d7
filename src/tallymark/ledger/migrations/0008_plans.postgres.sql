-- Plans: what several workers do together, in parts; and readings that each of them stages for itself.

create table plan (
    plan_id text collate "C" primary key,
    kind text collate "C" not null,
    stage text collate "C" not null,
    from_us bigint not null,
    to_us bigint,
    made_at_us bigint not null,
    stage_at_us bigint not null,
    card_digest text collate "C" not null,
    request text collate "C" not null,
    counts text collate "C" not null,
    problem text collate "C" not null
);

create index plan_open on plan (made_at_us) where stage not in ('done', 'failed', 'cancelled');

create table plan_part (
    plan_id text collate "C" not null,
    stage text collate "C" not null,
    number bigint not null,
    source_key text collate "C" not null,
    from_us bigint,
    to_us bigint,
    after_trace_id text collate "C" not null,
    through_trace_id text collate "C" not null,
    state text collate "C" not null,
    tries bigint not null,
    problem text collate "C" not null,
    counts text collate "C" not null,
    ended_at_us bigint,
    primary key (plan_id, stage, number)
);

alter table reading add column staged_by text collate "C" not null default '';
alter table reading drop constraint reading_pkey;
alter table reading add primary key (project_id, staged_by, trace_id);
