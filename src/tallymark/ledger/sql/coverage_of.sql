select from_us, to_us from coverage where source_key = :source_key and purpose = :purpose
