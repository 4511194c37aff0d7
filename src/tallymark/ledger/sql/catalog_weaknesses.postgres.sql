-- catalog_weaknesses: settings of the server without which a commit may be lost in a power cut.
select name from pg_settings where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off' order by name
