-- Pre-aggregated meters: of each window Stripe counts what it received last, so they are sent running totals.

create table meter_window (
    meter text primary key,               -- its event name, as the last check found it at Stripe
    window_s integer not null             -- an hour or a day of UTC
) strict, without rowid;

alter table attempt add column window_total integer;  -- credits that this send set its window to; null: it added
