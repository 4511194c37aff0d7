select distinct source_key from coverage
