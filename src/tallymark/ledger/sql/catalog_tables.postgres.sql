-- catalog_tables: the tables of the ledger's schema, but the one that says how many migrations it has seen.
select c.relname as name
  from pg_class as c
 where c.relnamespace = (select oid from pg_namespace where nspname = current_schema()) and c.relkind = 'r'
   and c.relname <> 'schema_version'
 order by c.relname collate "C"
