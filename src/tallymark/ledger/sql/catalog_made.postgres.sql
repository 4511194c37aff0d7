-- catalog_made: tables, indexes, triggers and the function that they call, with what a trigger calls and what the function does.
select 'table' as kind, c.relname::text as name, '' as does
  from pg_class as c
 where c.relnamespace = (select oid from pg_namespace where nspname = current_schema()) and c.relkind = 'r'
union all
select 'index', i.relname, ''
  from pg_class as i
  join pg_index as x on x.indexrelid = i.oid
 where i.relnamespace = (select oid from pg_namespace where nspname = current_schema())
   and not exists (select 1 from pg_constraint as k where k.conindid = i.oid)
union all
select 'trigger', t.tgname, case when t.tgenabled = 'O' then p.proname else 'nothing' end
  from pg_trigger as t
  join pg_class as c on c.oid = t.tgrelid
  join pg_proc as p on p.oid = t.tgfoid
 where c.relnamespace = (select oid from pg_namespace where nspname = current_schema()) and not t.tgisinternal
union all
select 'function', p.proname, p.prosrc
  from pg_proc as p
 where p.pronamespace = (select oid from pg_namespace where nspname = current_schema())
   and p.proname in ('refuse_edit', 'note_stale_usage', 'note_stale_model')
 order by 1, 2
