delete from coverage where source_key = :source_key and purpose = :purpose
