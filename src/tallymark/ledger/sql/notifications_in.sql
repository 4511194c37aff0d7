-- notifications_in: reports in a state, made since a moment, the oldest first.
select * from notification
 where state = :state and created_at_us >= :since_us
 order by created_at_us, notification_id
 limit :limit
