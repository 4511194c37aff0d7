-- What people are told without having asked, and how often in a row a job has failed.

create table alert (                      -- from when it is first found until its end is told
    rule text not null,
    subject text not null,                -- a job, a reason or a customer; '' for the whole ledger
    began_at_us integer not null,
    seen_at_us integer not null,          -- when it was found last
    over_at_us integer,                   -- when it ended; null while it goes on
    tried_at_us integer,                  -- when somebody last began to tell it
    told_at_us integer,                   -- when people were last told that it goes on
    text text not null,                   -- as it was found last
    value text not null,
    bound text not null,
    unit text not null,
    primary key (rule, subject)
) strict;

alter table job add column failed_in_a_row integer not null default 0;
