-- What billed traces come to, by day: a page reads some rows of it instead of every trace (docs/adr/0036). What columns mean
-- stands in 0007 for SQLite.

create table usage_sum (
    day_us bigint not null,
    customer_id text collate "C" not null,
    flow text collate "C" not null,
    model text collate "C" not null,
    traces bigint not null,
    billed_micros bigint not null,
    waived_micros bigint not null,
    first_us bigint not null,
    last_us bigint not null,
    read_at_us bigint not null,
    cost_usd text collate "C" not null,
    revenue_usd text collate "C" not null,
    components text collate "C" not null,
    primary key (day_us, customer_id, flow, model)
);

create index usage_sum_by_customer on usage_sum (customer_id, day_us);

create table usage_stale (
    day_us bigint not null,
    customer_id text collate "C" not null,
    primary key (day_us, customer_id)
);

create table compared_day (
    run_id text collate "C" not null,
    day_us bigint not null,
    customer_id text collate "C" not null,
    meter text collate "C" not null,
    langfuse_micros bigint not null,
    entries_micros bigint not null,
    accepted_micros bigint not null,
    stripe_micros bigint,
    differences text collate "C" not null,
    primary key (run_id, day_us, customer_id, meter)
);

create index trace_by_customer on trace (customer_id, timestamp_us);
create index trace_by_card on trace (card_digest, timestamp_us) where outcome = 'billed';
create index entry_by_customer on entry (customer_id, timestamp_us);
create index run_by_verb on run (verb, started_at_us, run_id);

create function note_stale_usage() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old.outcome = 'billed' and old.customer_id is not null then
        insert into usage_stale (day_us, customer_id)
        values (old.timestamp_us - old.timestamp_us % 86400000000, old.customer_id)
        on conflict do nothing;
    end if;
    if new.outcome = 'billed' and new.customer_id is not null then
        insert into usage_stale (day_us, customer_id)
        values (new.timestamp_us - new.timestamp_us % 86400000000, new.customer_id)
        on conflict do nothing;
    end if;
    return null;
end
$$;

create trigger new_usage_is_stale after insert on trace for each row execute function note_stale_usage();
create trigger changed_usage_is_stale
after update of customer_id, timestamp_us, outcome, billed_micros, waived_micros, card_digest, components, name
on trace for each row execute function note_stale_usage();

create function note_stale_model() returns trigger language plpgsql as $$
begin
    insert into usage_stale (day_us, customer_id)
    select t.timestamp_us - t.timestamp_us % 86400000000, t.customer_id
      from trace as t
     where t.project_id = new.project_id and t.trace_id = new.trace_id and t.outcome = 'billed' and t.customer_id is not null
    on conflict do nothing;
    return null;
end
$$;

create trigger new_model_is_stale after insert on unit for each row
when (new.model is not null) execute function note_stale_model();
create trigger changed_model_is_stale after update of model on unit for each row
when (old.model is distinct from new.model) execute function note_stale_model();

insert into usage_stale (day_us, customer_id)
select distinct timestamp_us - timestamp_us % 86400000000, customer_id
  from trace
 where outcome = 'billed' and customer_id is not null;
