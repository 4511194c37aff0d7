-- put_stale_models: new observations name models of traces that are billed; named by a JSON list of [project_id, trace_id,
-- unit_id].
insert into usage_stale (day_us, customer_id)
select distinct t.timestamp_us - t.timestamp_us % 86400000000, t.customer_id
  from jsonb_array_elements(cast(:units as jsonb)) as k
  join trace as t on t.project_id = k.value ->> 0 and t.trace_id = k.value ->> 1
 where t.outcome = 'billed' and t.customer_id is not null
   and not exists (select 1 from unit as u
                    where u.project_id = t.project_id and u.trace_id = t.trace_id and u.unit_id = k.value ->> 2)
on conflict do nothing
