select coalesce(max(entry_id), 0) as entry_id from entry
