-- card_use: what each rate card billed, and from when to when that usage was.
select card_digest, count(*) as traces, min(timestamp_us) as first_us, max(timestamp_us) as last_us
  from trace
 where outcome = 'billed'
 group by card_digest
