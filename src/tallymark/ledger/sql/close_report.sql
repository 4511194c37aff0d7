-- close_report: an open report can mean no meter event of this ledger any more.
update notification set state = 'applied' where notification_id = :notification_id and state = 'open'
