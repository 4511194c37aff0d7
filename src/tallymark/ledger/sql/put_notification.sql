-- put_notification: Stripe has something to report; its data is still to be fetched. A second time changes nothing.
insert into notification (notification_id, type, object_id, created_at_us, received_at_us, state, reported, matched, body)
values (:notification_id, :type, :object_id, :created_at_us, :received_at_us, 'received', 0, 0, '{}')
on conflict (notification_id) do nothing
