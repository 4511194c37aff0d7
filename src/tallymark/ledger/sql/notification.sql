-- notification: one report of Stripe.
select * from notification where notification_id = :notification_id
