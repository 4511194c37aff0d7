"""Sending, with a meter of the test's own."""

import threading
from collections import Counter

from builders import NOW_US
from ledger_lines import RUN, bill
from tallymark.core.clock import SECOND_US
from tallymark.core.states import Answer, MeterOutcome
from tallymark.flows.progress import quiet
from tallymark.flows.send import SEND_THREADS, send
from tallymark.ledger.sending import CLAIM_SECONDS
from tallymark.meter.stripe_events import TIMEOUT_SECONDS


class SlowMeter:
    """Takes as long for each meter event as a request may last at most, as far as one thread's work goes."""

    def __init__(self, clock):
        self.sent, self._clock, self._lock = [], clock, threading.Lock()

    def send(self, claim):
        with self._lock:
            self.sent.append((claim.customer_id, self._clock.now_us() - claim.sent_at_us))
            self._clock.advance(TIMEOUT_SECONDS / SEND_THREADS)
        return MeterOutcome(Answer.ACCEPTED)


def test_nothing_is_sent_when_its_claim_is_about_to_end(ledger, look, clock):
    """The last of many claims would be sent when another process may take it over: two calls of a customer at once."""
    for number in range(64):
        bill(ledger, f"t{number}", customer=f"cus_{number}")
    meter = SlowMeter(clock)

    send(ledger, meter, RUN._replace(now_us=NOW_US), clock, quiet)

    assert set(Counter(customer for customer, _ in meter.sent).values()) == {1}
    assert max(waited for _, waited in meter.sent) + TIMEOUT_SECONDS * SECOND_US < CLAIM_SECONDS * SECOND_US
    assert look("select distinct state from meter_event") == [("accepted",)]
    assert look("select count(*) from attempt where outcome = 'throttled'")[0][0] > 10
