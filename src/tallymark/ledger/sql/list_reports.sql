-- list_reports: reports of Stripe that are not explained yet, the oldest first.
select notification_id, object_id, created_at_us, state, reported, matched, body
  from notification
 where state <> 'applied'
 order by created_at_us, notification_id
 limit :limit
