-- put_alert: a rule finds something now; what was over and comes back before that was told has never ended.
insert into alert (rule, subject, began_at_us, seen_at_us, text, value, bound, unit)
values (:rule, :subject, :now_us, :now_us, :text, :value, :bound, :unit)
on conflict (rule, subject) do update
   set seen_at_us = excluded.seen_at_us, over_at_us = null, text = excluded.text, value = excluded.value,
       bound = excluded.bound, unit = excluded.unit
