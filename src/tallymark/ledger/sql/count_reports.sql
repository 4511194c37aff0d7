-- count_reports: reports of Stripe that are not explained yet.
select count(*) as reports from notification where state <> 'applied'
