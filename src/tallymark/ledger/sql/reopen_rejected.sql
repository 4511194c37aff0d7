-- reopen_rejected: a meter event that was refused at once was not counted, so it may be offered again as it is. One that
-- was taken and reported later needs a new identifier: reissue.
update meter_event set state = 'pending', next_attempt_at_us = 0 where state = 'rejected' and reported_at_us is null
