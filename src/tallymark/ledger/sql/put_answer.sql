-- put_answer: how a meter event that is not sent any more ended, for people, and when.
update meter_event set answer = :answer, answered_at_us = :now_us where meter_event_id = :meter_event_id
