-- What `tallymark serve` runs again and again: when each job is due, who runs it now, and what came of it so far.

create table job (
    name text primary key,                -- sync, full sync, reconcile
    due_at_us integer not null,
    owner text not null,                  -- the process that runs it; '' for none
    lease_until_us integer not null,      -- 0 for none; renewed while it runs
    attempt integer not null,             -- how often it was taken; fences who was given up
    started_at_us integer,
    finished_at_us integer,               -- whether it worked or not
    succeeded_at_us integer,
    problem text not null,                -- why the last run failed; '' if it worked
    runs integer not null,
    failures integer not null,
    run_us integer not null,
    langfuse_requests integer not null,
    stripe_requests integer not null,
    accepted integer not null             -- meter events
) strict;
