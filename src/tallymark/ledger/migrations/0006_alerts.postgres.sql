-- What people are told without having asked, and how often in a row a job has failed.

create table alert (
    rule text collate "C" not null,
    subject text collate "C" not null,
    began_at_us bigint not null,
    seen_at_us bigint not null,
    over_at_us bigint,
    tried_at_us bigint,
    told_at_us bigint,
    text text collate "C" not null,
    value text collate "C" not null,
    bound text collate "C" not null,
    unit text collate "C" not null,
    primary key (rule, subject)
);

alter table job add column failed_in_a_row bigint not null default 0;
