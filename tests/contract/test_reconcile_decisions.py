"""Reconcile after corrections and decisions: each micro-credit that moved, waits or was given up is told as that."""

from decimal import Decimal

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, parse_time
from tallymark.flows import held_decisions
from tallymark.flows.reconcile import reconcile
from tallymark.sandbox.faults import Fault, Faults

pytestmark = pytest.mark.usefixtures("proved")

BOUNDARY_US = parse_time("2026-11-23T10:30:00Z")
LATE_US = BOUNDARY_US - 20 * MINUTE_US
WORTH = f"{CREDITS_OF_A_TRACE}.000000"
CANCEL = {"BILLING_METER_BUCKET": "trace", "BILLING_CORRECTIONS": "cancel"}


@pytest.fixture
def causes(settings, clock):
    """A function that reconciles, once all is old enough to show; gives the credits by cause, the carry aside."""

    def once(**changes):
        clock.advance(2 * HOUR_US // 1_000_000)
        found, _ = reconcile(settings(**changes), from_us=NOW_US - 10 * DAY_US, clock=clock)
        assert found.explained
        assert Decimal(found.total.langfuse) + sum(map(Decimal, found.total.differences.values())) == Decimal(
            found.total.stripe or "0"
        )
        return {line.cause: line.credits for line in found.causes if line.cause != "carry"}

    return once


@pytest.fixture
def late(put, run, stripe, look):
    """A trace of 500 credits held because its invoice is final; the id of the meter event it waits in."""
    stripe.add_subscription(
        "cus_1", "credits", started_at_us=BOUNDARY_US - 20 * DAY_US, period="day", unit_amount_decimal="0.4"
    )
    put("late", at_us=LATE_US)
    run()
    ((meter_event_id,),) = look("select meter_event_id from meter_event where state = 'held'")
    return meter_event_id


@pytest.fixture
def decide(settings, run, clock):
    """A function that carries out a word of Anna's, and lets a run follow."""

    def word(choice, *ids, **more):
        held_decisions.release(settings(), ids, choice, why="agreed by mail", by="anna", clock=clock, **more)
        run()

    return word


def test_what_is_late_waits(late, causes):
    """Until a person decides."""
    assert causes() == {"late": f"-{WORTH}"}


def test_what_was_billed_now_has_moved(late, decide, causes, stripe):
    """Nothing is missing: it left one hour and came into another."""
    decide("bill-now", late)

    assert causes() == {"moved": "0.000000"}
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_what_another_customer_pays_has_moved(late, decide, causes, stripe):
    """From one customer to another."""
    decide("customer", late, customer_id="cus_2")

    assert causes() == {"moved": "0.000000"}
    assert stripe.tally() == {("cus_2", "credits"): CREDITS_OF_A_TRACE}


def test_what_was_waived_is_waived(late, decide, causes, stripe):
    """By whom and why is in the decisions."""
    decide("waive", late)

    assert causes() == {"waived": f"-{WORTH}"}
    assert stripe.tally() == {}


def test_what_an_invoice_item_bills_is_invoiced(late, decide, causes, stripe):
    """Stripe's meter has nothing of it."""
    decide("invoice-item", late)

    assert causes() == {"invoiced": f"-{WORTH}"}
    assert stripe.tally() == {}


def test_what_was_waived_and_then_came_to_less_is_still_explained(put, late, decide, run, causes):
    """The waiver ends with the usage; nobody is given what was never paid."""
    decide("waive", late)
    put("late", at_us=LATE_US, cost="0", tokens=(0, 0))
    run(full=True)

    assert causes() == {"waived": f"-{CREDITS_OF_A_TRACE // 2}.000000"}


def test_what_was_given_back_by_the_carry_is_carry(put, run, causes, settings, clock):
    """Stripe keeps what it counted; the customer's next usage pays it off."""
    put("t1")
    run()
    put("t1", cost="0", tokens=(0, 0))
    run()

    assert causes() == {}


def test_what_stripe_took_back_has_moved_in_place(put, run, causes, settings, stripe):
    """The lower usage was entered anew in the same bucket."""
    put("t1")
    run(settings(**CANCEL))
    put("t1", cost="0", tokens=(0, 0))
    run(settings(**CANCEL))

    assert set(causes(**CANCEL)) <= {"moved"}
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE // 2}


def test_a_doubt_about_taking_back_is_no_riddle(put, run, causes, settings, stripe, monkeypatch):
    """Whether Stripe counts it or not: it is in doubt."""
    put("t1")
    run(settings(**CANCEL))
    put("t1", cost="0", tokens=(0, 0))
    faults = Faults.script([(lambda request: request.path.endswith("meter_event_adjustments"), Fault.RESET_AFTER)])
    run(settings(stripe_faults=faults, **CANCEL))

    assert set(causes(**CANCEL)) <= {"in_doubt", "moved", "kept"}


@pytest.mark.parametrize(("policy", "told"), [("credit", {}), ("keep", {"not_in_langfuse": WORTH})])
def test_what_was_deleted_is_given_back_or_told(put, run, causes, langfuse, settings, policy, told):
    """Given back, Langfuse and the ledger agree again; kept, the ledger has more."""
    put("t0", minutes_ago=300)
    put("t1")
    run()
    langfuse.delete_trace(PROJECT, "t1")
    run(settings(BILLING_DELETED_TRACES=policy), full=True)

    assert causes() == told


def test_what_was_held_as_too_old_and_is_billed_now_is_told_as_moved(put, run, settings, clock, decide, causes):
    """Langfuse has it at its own time, the ledger where the decision dated it."""
    put("old", minutes_ago=5 * 24 * 60)
    clock.advance(31 * DAY_US // 1_000_000)
    run(from_us=NOW_US - 10 * DAY_US)
    decide("bill-now", "old")

    assert causes() == {"moved": "0.000000"}
