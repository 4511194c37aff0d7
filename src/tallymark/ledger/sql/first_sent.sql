-- first_sent: when the first meter event was sent; no report can speak of what was before.
select min(sent_at_us) as sent_at_us from attempt
