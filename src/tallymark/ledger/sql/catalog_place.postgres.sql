-- catalog_place: where a ledger would be made.
select current_schema()::text as schema, current_setting('server_encoding') as encoding
