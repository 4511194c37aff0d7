-- What people and evidence decide, as lines of their own; meter events that wait for them; billing periods; a chain of
-- digests over entries and decisions, so that a later edit shows.

drop trigger entry_is_append_only;
drop trigger entry_is_never_deleted;

create table decision (                   -- what was decided about money, by whom and why
    decision_id integer primary key,
    at_us integer not null,
    who text not null,
    verb text not null,                   -- release, bill_now, invoice_item, waive, assign, settle, reissue, cancel
    subject_kind text not null,           -- trace, meter_event, rule
    subject text not null,                -- project and trace, a meter event, or what a rule matches
    amount_micros integer not null,
    why text not null,
    detail text not null,                 -- JSON: the evidence, the customer, the invoice item
    digest text not null
) strict;

create table chain (                      -- the newest link of each chain of digests
    name text primary key,                -- entry, decision
    length integer not null,
    digest text not null
) strict;

insert into chain (name, length, digest) values ('entry', 0, ''), ('decision', 0, '');

create table ruling (                     -- a person's word on a trace that was held before it was billed
    project_id text not null,
    trace_id text not null,
    verb text not null,                   -- assign: bill this customer; bill_now: date it dated_at_us; waive
    customer_id text,
    dated_at_us integer,
    decision_id integer not null,
    primary key (project_id, trace_id)
) strict;

create table customer_rule (              -- a person's word on all traces of a user, organization or session
    kind text not null,
    value text not null,
    customer_id text not null,
    decision_id integer not null,
    primary key (kind, value)
) strict;

create table period (                     -- a billing period of a customer's subscription item for a meter
    customer_id text not null,
    meter text not null,
    item_id text not null,
    start_us integer not null,
    end_us integer not null,
    read_at_us integer not null,
    primary key (customer_id, meter, item_id, start_us)
) strict;

create table period_check (               -- when a customer's subscription items were read last, found or not
    customer_id text not null,
    meter text not null,
    read_at_us integer not null,
    primary key (customer_id, meter)
) strict;

create table notification (               -- what Stripe reported of meter events that it had taken
    notification_id text primary key,
    type text not null,
    object_id text not null,              -- the meter
    created_at_us integer not null,
    received_at_us integer not null,
    state text not null,                  -- received: its data is still to be fetched; applied; open: it names too few
    reported integer not null,            -- how many meter events it speaks of
    matched integer not null,             -- how many of them were found in the ledger
    body text not null                    -- JSON: reasons, counts and the samples' identifiers
) strict;

create index notification_open on notification (state) where state <> 'applied';

alter table entry add column decision_id integer;
alter table entry add column digest text not null default '';

alter table meter_event add column reason text not null default '';      -- why it is held, or Stripe's code of refusal
alter table meter_event add column reissue integer not null default 0;   -- how often it got a new identifier
alter table meter_event add column reported_at_us integer;               -- when Stripe took back its acceptance
alter table meter_event add column released_by integer;                  -- the decision to send it all the same

alter table trace add column waived_micros integer not null default 0;   -- what was billed otherwise, or not at all
alter table trace add column deleted_at_us integer;                      -- when Langfuse was found not to have it any more

drop index meter_event_open;
create index meter_event_by_state on meter_event (state, customer_id, meter);
-- One call in flight for each customer and meter, whoever claims.
create unique index meter_event_in_flight on meter_event (customer_id, meter) where state in ('sending', 'cancelling');
