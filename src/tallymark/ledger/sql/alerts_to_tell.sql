-- alerts_to_tell: alerts that are new, over, or were told a day ago, and that nobody is telling now. A try in the future was
-- noted by a wrong clock.
select * from alert
 where (told_at_us is null or over_at_us is not null or told_at_us <= :told_by_us)
   and (tried_at_us is null or tried_at_us <= :tried_by_us or tried_at_us > :now_us)
 order by rule, subject
