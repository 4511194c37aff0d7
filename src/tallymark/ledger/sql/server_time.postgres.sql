select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint) as now_us
