-- last_usage: when the newest billed trace up to a moment was.
select timestamp_us from trace where outcome = 'billed' and timestamp_us <= :until_us order by timestamp_us desc limit 1
