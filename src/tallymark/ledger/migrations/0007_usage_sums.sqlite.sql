-- What billed traces come to, by day: a page reads some rows of it instead of every trace (docs/adr/0036). A sum is used only
-- while nothing of its customer and day has changed: whoever changes a trace makes it stale, in the same transaction.

create table usage_sum (                  -- the billed traces of a customer, a UTC day, a flow and a model, added up
    day_us integer not null,
    customer_id text not null,
    flow text not null,                   -- the traces' name; '' for none
    model text not null,                  -- their models as one text
    traces integer not null,
    billed_micros integer not null,
    waived_micros integer not null,       -- by waivers; what an invoice item billed is billed
    first_us integer not null,            -- the times of the first and the last of them
    last_us integer not null,
    read_at_us integer not null,          -- when one of them was read last and was new or changed
    cost_usd text not null,               -- exact decimals: what Langfuse reports, and credits at the price of their moment
    revenue_usd text not null,
    components text not null,             -- JSON: micro-credits and exact USD of each component
    primary key (day_us, customer_id, flow, model)
) strict, without rowid;

create index usage_sum_by_customer on usage_sum (customer_id, day_us);

create table usage_stale (                -- customers and days of which something changed since they were added up
    day_us integer not null,
    customer_id text not null,
    primary key (day_us, customer_id)
) strict, without rowid;

create table compared_day (               -- what a reconciliation found of a customer, a meter and a UTC day, in micro-credits
    run_id text not null,
    day_us integer not null,
    customer_id text not null,            -- '' for usage of nobody
    meter text not null,
    langfuse_micros integer not null,
    entries_micros integer not null,
    accepted_micros integer not null,
    stripe_micros integer,                -- null where Stripe was not asked
    differences text not null,            -- JSON: micro-credits by cause
    primary key (run_id, day_us, customer_id, meter)
) strict, without rowid;

create index trace_by_customer on trace (customer_id, timestamp_us);
create index trace_by_card on trace (card_digest, timestamp_us) where outcome = 'billed';
create index entry_by_customer on entry (customer_id, timestamp_us);
create index run_by_verb on run (verb, started_at_us, run_id);

create trigger new_usage_is_stale after insert on trace
when new.outcome = 'billed' and new.customer_id is not null
begin
    insert into usage_stale (day_us, customer_id)
    select new.timestamp_us - new.timestamp_us % 86400000000, new.customer_id
     where not exists (select 1 from usage_stale as s
                        where s.day_us = new.timestamp_us - new.timestamp_us % 86400000000 and s.customer_id = new.customer_id);
end;

create trigger changed_usage_is_stale
after update of customer_id, timestamp_us, outcome, billed_micros, waived_micros, card_digest, components, name on trace
when old.outcome = 'billed' or new.outcome = 'billed'
begin
    insert into usage_stale (day_us, customer_id)
    select old.timestamp_us - old.timestamp_us % 86400000000, old.customer_id
     where old.outcome = 'billed' and old.customer_id is not null
       and not exists (select 1 from usage_stale as s
                        where s.day_us = old.timestamp_us - old.timestamp_us % 86400000000 and s.customer_id = old.customer_id);
    insert into usage_stale (day_us, customer_id)
    select new.timestamp_us - new.timestamp_us % 86400000000, new.customer_id
     where new.outcome = 'billed' and new.customer_id is not null
       and not exists (select 1 from usage_stale as s
                        where s.day_us = new.timestamp_us - new.timestamp_us % 86400000000 and s.customer_id = new.customer_id);
end;

create trigger new_model_is_stale after insert on unit
when new.model is not null
begin
    insert into usage_stale (day_us, customer_id)
    select t.timestamp_us - t.timestamp_us % 86400000000, t.customer_id
      from trace as t
     where t.project_id = new.project_id and t.trace_id = new.trace_id and t.outcome = 'billed' and t.customer_id is not null
       and not exists (select 1 from usage_stale as s
                        where s.day_us = t.timestamp_us - t.timestamp_us % 86400000000 and s.customer_id = t.customer_id);
end;

create trigger changed_model_is_stale after update of model on unit
when old.model is not new.model
begin
    insert into usage_stale (day_us, customer_id)
    select t.timestamp_us - t.timestamp_us % 86400000000, t.customer_id
      from trace as t
     where t.project_id = new.project_id and t.trace_id = new.trace_id and t.outcome = 'billed' and t.customer_id is not null
       and not exists (select 1 from usage_stale as s
                        where s.day_us = t.timestamp_us - t.timestamp_us % 86400000000 and s.customer_id = t.customer_id);
end;

insert into usage_stale (day_us, customer_id)
select distinct timestamp_us - timestamp_us % 86400000000, customer_id
  from trace
 where outcome = 'billed' and customer_id is not null;
