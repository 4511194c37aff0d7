delete from usage_stale
