-- close_readings: traces of a period that were read in part and are not decided; whose they are is not known yet.
select count(*) as traces from reading where timestamp_us >= :from_us and timestamp_us < :to_us
