-- reopen_rejected: a rejected meter event was not counted, so it may be offered again once the cause may be mended.
update meter_event set state = 'pending', next_attempt_at_us = 0 where state = 'rejected'
