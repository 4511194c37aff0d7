-- latest_billed: the newest trace with a charge whose mark is written.
select trace_id, timestamp_us from trace
 where outcome = 'billed' and mark_state = 'written' and billed_micros > 0
 order by timestamp_us desc, trace_id
 limit 1
