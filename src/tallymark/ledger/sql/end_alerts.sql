-- end_alerts: what was not found any more for a while is over.
update alert set over_at_us = :now_us where over_at_us is null and seen_at_us <= :unseen_since_us
