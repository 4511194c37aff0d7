-- close_reports: reports of Stripe of a span of time that are not explained, and how many meter events they speak of beyond
-- those that were found. A report names no customer.
select count(*) as reports, cast(coalesce(sum(reported - matched), 0) as bigint) as missing
  from notification
 where state <> 'applied' and created_at_us >= :from_us and created_at_us < :to_us
