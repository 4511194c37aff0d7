select rule, count(*) as alerts from alert where over_at_us is null group by rule
