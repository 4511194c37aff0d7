"""Lost answers, lost requests, late rejections and reports that name too few, at random: billed exactly in the end."""

import random

import pytest

import tallymark
from builders import NOW_US
from ledger_lines import RUN
from tallymark.core.clock import MINUTE_US
from tallymark.ledger.corrections import Decided
from tallymark.ledger.reports import reissue
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe

SEEDS = range(3)
CUSTOMERS = 4
TRACES = 40
ROUNDS = 8
CODES = ("meter_event_customer_not_found", "archived_meter", "no_meter")
LOST = {Fault.RESET_BEFORE: 0.2, Fault.RESET_AFTER: 0.3, Fault.ERROR_AFTER: 0.1, Fault.TRUNCATED: 0.1}
DARK = {Fault.RESET_BEFORE: 0.5, Fault.RESET_AFTER: 0.5}


def is_meter_event(request):
    return request.path.endswith("/meter_events")


def release(ledger):
    """A person releases what was reported too often."""
    for row in list(ledger.query("list_open_meter_events", reason="", limit=100)):
        if row["state"] == "held":
            decided = Decided("ann", "release", "meter_event", row["meter_event_id"], 0, "try again")
            assert reissue(ledger, RUN, row["meter_event_id"], decided, by_person=True)


@pytest.mark.parametrize("bucket", ["hour", "trace"])
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_was_lost_or_rejected_is_billed_once_in_the_end(put, run, settings, clock, look, ledger, seed, bucket):
    """Every meter event lies in a minute of its own, so that Stripe's sums can tell each from the others (G1, G4)."""
    chance = random.Random(seed)
    stripe = SandboxStripe(clock=clock, error_samples_max=chance.randrange(3))
    stripe.add_meter("credits")
    for number in range(TRACES):
        at_us = NOW_US - (60 + 5 * number) * MINUTE_US
        put(f"t{number}", customer=f"cus_{number % CUSTOMERS}", at_us=at_us, cost=f"0.0{chance.randrange(100, 999)}")
    for number in range(ROUNDS):
        rates = chance.choice([LOST, DARK, {}])
        faults = Faults(seed * 100 + number, rates, only=is_meter_event)
        stripe.reject_next(chance.randrange(3), chance.choice(CODES))
        to = settings(bill_to=stripe, stripe_faults=faults, BILLING_METER_BUCKET=bucket)
        run(to, from_us=NOW_US - 24 * 60 * MINUTE_US)
        clock.advance(chance.choice([60, 900, 7200, 30 * 3600]))

    for _ in range(24):
        run(settings(bill_to=stripe, BILLING_METER_BUCKET=bucket))
        clock.advance(7 * 3600)
        release(ledger)

    rest = look("select state, reason, reissue, answer from meter_event where state <> 'accepted'")
    assert rest == []
    billed = dict(look("select customer_id, sum(amount_micros) from entry group by customer_id"))
    carried = dict(look("select customer_id, amount_micros from carry"))
    counted = {customer: int(value) * 1_000_000 for (customer, _), value in stripe.tally().items()}
    assert {customer: counted[customer] + carried[customer] for customer in billed} == billed
    assert tallymark.verify_ledger(settings(bill_to=stripe)).findings == []
    assert look("select state, count(*) from notification where state <> 'applied' group by state") == []
