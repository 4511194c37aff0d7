-- latest_billed: the newest trace with a charge whose mark is written, and whose AI cost is not the customer's own.
select trace_id, timestamp_us from trace
 where outcome = 'billed' and mark_state = 'written' and billed_micros > 0
   and attributes not like '%"aiCredentialsOwnership":"user"%'
 order by timestamp_us desc, trace_id
 limit 1
