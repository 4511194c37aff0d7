-- Pre-aggregated meters: of each window Stripe counts what it received last, so they are sent running totals.

create table meter_window (
    meter text collate "C" primary key,
    window_s bigint not null
);

alter table attempt add column window_total bigint;
