-- catalog_columns: the columns of a table of the ledger's schema, in their order.
select a.attname as name
  from pg_attribute as a
  join pg_class as c on c.oid = a.attrelid
 where c.relnamespace = (select oid from pg_namespace where nspname = current_schema()) and c.relkind = 'r'
   and c.relname = :table_name and a.attnum > 0 and not a.attisdropped
 order by a.attnum
