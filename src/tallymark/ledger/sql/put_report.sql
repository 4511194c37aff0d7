-- put_report: what a report says, and how much of it was found.
update notification
   set state = :state, reported = :reported, matched = :matched, body = :body
 where notification_id = :notification_id
