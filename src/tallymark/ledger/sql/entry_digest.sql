select digest from entry where entry_id = :entry_id
