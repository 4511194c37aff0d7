delete from alert where rule = :rule and subject = :subject and over_at_us = :over_at_us
