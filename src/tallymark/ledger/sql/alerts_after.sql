-- alerts_after: a page of the alerts that hold, in the order of rule and subject.
select * from alert
 where over_at_us is null and (rule, subject) > (:rule, :subject)
 order by rule, subject
 limit :limit
