-- What `tallymark serve` runs again and again: when each job is due, who runs it now, and what came of it so far.

create table job (
    name text collate "C" primary key,
    due_at_us bigint not null,
    owner text collate "C" not null,
    lease_until_us bigint not null,
    attempt bigint not null,
    started_at_us bigint,
    finished_at_us bigint,
    succeeded_at_us bigint,
    problem text collate "C" not null,
    runs bigint not null,
    failures bigint not null,
    run_us bigint not null,
    langfuse_requests bigint not null,
    stripe_requests bigint not null,
    accepted bigint not null
);
