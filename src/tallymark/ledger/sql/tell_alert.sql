update alert set told_at_us = :now_us where rule = :rule and subject = :subject
