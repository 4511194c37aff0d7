-- entries_after: entries in the order in which they were appended, after a given one.
select * from entry where entry_id > :after_entry_id order by entry_id limit :limit
