-- link_older_entry: give an entry from before there was a chain its digest; a migration does, and nothing else may.
update entry set digest = :digest where entry_id = :entry_id and digest = ''
