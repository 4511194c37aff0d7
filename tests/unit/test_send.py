"""Sending claims: none leaves that another process may already have taken over."""

import contextlib

from ledger_lines import RUN, bill
from tallymark import machine
from tallymark.core.clock import SECOND_US
from tallymark.core.states import Answer, MeterOutcome
from tallymark.flows.progress import quiet
from tallymark.flows.send import SEND_WITHIN_SECONDS, send


class OneAtATime(machine.Machine):
    """A machine with one thread."""

    @contextlib.contextmanager
    def pool(self, threads, name):
        """Itself."""
        yield self

    def map(self, do, items):
        """One after the other."""
        return map(do, items)


class Slow:
    """A meter that takes half a minute for each answer."""

    def __init__(self, clock):
        self.clock, self.ages_us, self.taken = clock, [], []

    def send(self, claim):
        self.ages_us.append(self.clock.now_us() - claim.sent_at_us)
        self.taken.append(claim.customer_id)
        self.clock.advance(30)
        return MeterOutcome(Answer.ACCEPTED, "taken")


def test_a_claim_that_is_nearly_over_is_not_sent(ledger, clock):
    """Another process may take it over after a minute; so where Stripe hangs, the rest of a batch is claimed again."""
    for number in range(5):
        bill(ledger, f"t{number}", customer=f"cus_{number}")
    meter = Slow(clock)

    with machine.running_on(OneAtATime()):
        send(ledger, meter, RUN, clock, quiet)

    assert max(meter.ages_us) <= SEND_WITHIN_SECONDS * SECOND_US
    assert sorted(meter.taken) == [f"cus_{number}" for number in range(5)]
