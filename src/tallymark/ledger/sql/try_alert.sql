update alert set tried_at_us = :now_us where rule = :rule and subject = :subject
