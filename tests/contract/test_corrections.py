"""Usage that came to less: carried against the customer's next usage, or taken back at Stripe within a day."""

import pytest

import tallymark
from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT
from databases import DATABASES
from kills import killed_at
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.errors import ConfigError
from tallymark.failpoints import Side, Step
from tallymark.flows import held_decisions
from tallymark.sandbox.faults import Fault, Faults

pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]

ADJUSTMENTS = "POST /v1/billing/meter_event_adjustments"
CANCEL = {"BILLING_METER_BUCKET": "trace", "BILLING_CORRECTIONS": "cancel"}
HALF = CREDITS_OF_A_TRACE // 2
# Compute alone is left of a trace.
FREE = {"cost": "0", "tokens": (0, 0)}


@pytest.fixture
def states(look):
    """A function that gives state, reason and credits of each meter event, in the order of revisions."""
    return lambda: look("select state, reason, credits from meter_event order by bucket_start_us, revision")


@pytest.fixture
def shrink(put, run, settings):
    """A function that bills a trace of 500 credits and then finds it worth 250."""

    def make(to=None, **changes):
        to = to or settings(**CANCEL)
        put("t1", **changes)
        run(to)
        put("t1", **FREE, **changes)
        return run(to)

    return make


def is_cancel(request):
    """Whether Stripe is asked to take a meter event back."""
    return request.path.endswith("meter_event_adjustments")


def tally(stripe, customer="cus_1"):
    return stripe.tally().get((customer, "credits"), 0)


# ---- carry and cancel


def test_by_default_lower_usage_waits_in_the_carry(shrink, settings, stripe, balance, look):
    """Stripe keeps what it counted; the next usage pays it off."""
    shrink(settings())

    assert tally(stripe) == CREDITS_OF_A_TRACE
    assert ADJUSTMENTS not in stripe.counts()
    assert look("select amount_micros from carry") == [(-HALF * CREDIT_MICROS,)]
    assert balance() == {"cus_1": HALF * CREDIT_MICROS}


def test_cancel_takes_the_meter_event_back_and_sends_the_right_one(shrink, stripe, states, look, langfuse):
    """In the same run: Stripe counts 250, dated as before; who took it back is a line; the mark names the new one."""
    assert shrink().adjusted == 1

    assert states() == [("cancelled", "", CREDITS_OF_A_TRACE), ("accepted", "", HALF)]
    assert tally(stripe) == HALF
    assert len({event.timestamp_seconds for event in stripe.meter_events()}) == 1
    assert look("select amount_micros from carry") == [(0,)]
    assert look("select verb, who, amount_micros from decision") == [
        ("cancel", "tallymark", CREDITS_OF_A_TRACE * CREDIT_MICROS)
    ]
    ((newest,),) = look("select meter_event_id from meter_event where state = 'accepted'")
    (trace,) = langfuse.traces(PROJECT)
    assert trace["metadata"]["meter_event_id"] == newest


def test_what_grew_is_not_cancelled(put, run, settings, stripe, states):
    """The difference is a meter event of its own, as ever."""
    put("t1")
    run(settings(**CANCEL))
    put("t1", cost="0.02")
    run(settings(**CANCEL))

    assert states() == [("accepted", "", CREDITS_OF_A_TRACE), ("accepted", "", HALF)]
    assert ADJUSTMENTS not in stripe.counts()


def test_of_several_meter_events_only_as_many_as_needed_are_taken_back(put, run, settings, stripe, states):
    """Charged 500, grew by 500, shrank by 250: the newer one is enough."""
    put("t1")
    run(settings(**CANCEL))
    put("t1", cost="0.03")
    run(settings(**CANCEL))
    put("t1", cost="0.02")
    run(settings(**CANCEL))

    assert states() == [
        ("accepted", "", CREDITS_OF_A_TRACE),
        ("cancelled", "", CREDITS_OF_A_TRACE),
        ("accepted", "", HALF),
    ]
    assert stripe.counts()[ADJUSTMENTS] == 1
    assert tally(stripe) == CREDITS_OF_A_TRACE + HALF


def test_after_a_day_stripe_is_not_asked(put, run, settings, clock, stripe, balance):
    """It takes nothing back then; the carry does (facts/stripe.md section 3)."""
    put("t1")
    run(settings(**CANCEL))
    clock.advance(DAY_US // 1_000_000)
    put("t1", **FREE)

    run(settings(**CANCEL), full=True)

    assert ADJUSTMENTS not in stripe.counts()
    assert balance() == {"cus_1": HALF * CREDIT_MICROS}


def test_a_final_invoice_is_not_touched(put, run, settings, clock, stripe, balance):
    """A cancellation would lower no invoice, and the right meter event would be late."""
    stripe.add_subscription("cus_1", "credits", started_at_us=NOW_US - 20 * DAY_US - 30 * MINUTE_US, period="day")
    put("t1", minutes_ago=60)
    run(settings(**CANCEL))
    clock.advance(3600)
    put("t1", minutes_ago=60, **FREE)

    run(settings(**CANCEL))

    assert ADJUSTMENTS not in stripe.counts()
    assert balance() == {"cus_1": HALF * CREDIT_MICROS}
    assert (stripe.lost(), stripe.unbilled()) == ([], [])


def test_a_refusal_leaves_the_correction_to_the_carry(shrink, stripe, settings, states, balance, monkeypatch):
    """Stripe keeps the meter event, which stays accepted, and is not asked again."""
    monkeypatch.setattr("tallymark.sandbox.stripe.meter_events._ADJUSTMENT_US", -1)

    shrink()

    assert states() == [("accepted", "kept", CREDITS_OF_A_TRACE), ("carried", "", 0)]
    assert stripe.counts()[ADJUSTMENTS] == 1
    assert balance() == {"cus_1": HALF * CREDIT_MICROS}


def test_a_busy_stripe_is_asked_again(shrink, stripe, settings):
    """A 429 is no answer to the question."""
    faults = Faults.script([(is_cancel, Fault.RATE_LIMITED)])

    shrink(settings(stripe_faults=faults, **CANCEL))

    assert tally(stripe) == HALF


def test_an_unanswered_request_that_did_not_arrive_is_asked_again(shrink, stripe, settings, states):
    """The second one is carried out, and that settles it."""
    faults = Faults.script([(is_cancel, Fault.RESET_BEFORE)])

    shrink(settings(stripe_faults=faults, **CANCEL))

    assert states() == [("cancelled", "", CREDITS_OF_A_TRACE), ("accepted", "", HALF)]
    assert tally(stripe) == HALF


@pytest.mark.parametrize(("counted", "fault"), [(False, Fault.RESET_AFTER), (True, Fault.RESET_BEFORE)])
def test_a_refusal_after_an_unanswered_request_is_a_doubt_that_a_person_settles(
    shrink, stripe, settings, states, look, clock, run, balance, monkeypatch, counted, fault
):
    """Taken back, or too late for it: Stripe's words do not tell. Until then the customer's other usage goes on."""
    if counted:
        monkeypatch.setattr("tallymark.sandbox.stripe.meter_events._ADJUSTMENT_US", -1)
    faults = Faults.script([(is_cancel, fault)])

    summary = shrink(settings(stripe_faults=faults, **CANCEL))

    assert states() == [("in_doubt", "cancelling", CREDITS_OF_A_TRACE), ("carried", "", 0)]
    assert summary.held["in_doubt"] == 1
    ((meter_event_id,),) = look("select meter_event_id from meter_event where state = 'in_doubt'")
    word = "arrived" if counted else "not-sent"
    held_decisions.release(settings(), [meter_event_id], word, why="its summary", by="anna", clock=clock)
    run(settings(**CANCEL))
    assert balance() == {"cus_1": HALF * CREDIT_MICROS}


@pytest.mark.parametrize(("counted", "fault"), [(False, Fault.RESET_AFTER), (True, Fault.RESET_BEFORE)])
def test_a_doubt_about_taking_back_is_settled_by_what_stripe_counts(
    shrink, stripe, settings, states, clock, run, balance, monkeypatch, counted, fault
):
    """Not counted: it was taken back, and the right amount is sent as a meter event of its own. Counted: it stays."""
    if counted:
        monkeypatch.setattr("tallymark.sandbox.stripe.meter_events._ADJUSTMENT_US", -1)
    shrink(settings(stripe_faults=Faults.script([(is_cancel, fault)]), **CANCEL))
    clock.advance(2 * HOUR_US // SECOND_US)

    assert run(settings(**CANCEL)).held["in_doubt"] == 0

    assert balance() == {"cus_1": HALF * CREDIT_MICROS}
    assert tally(stripe) == (CREDITS_OF_A_TRACE if counted else HALF)
    before, after = (("accepted", "counted"), "carried") if counted else (("cancelled", "cancelling"), "accepted")
    assert (states()[0][:2], states()[-1][0]) == (before, after)


def test_what_was_begun_under_cancel_is_finished_under_carry(put, run, settings, clock, stripe, balance, states):
    """A policy that is changed leaves no customer's usage waiting behind a request without an answer."""
    put("t1")
    run(settings(**CANCEL))
    put("t1", **FREE)
    assert killed_at(Step.STRIPE_CANCEL, Side.BEFORE, lambda: run(settings(**CANCEL)))
    assert states() == [("cancelling", "", CREDITS_OF_A_TRACE)]
    clock.advance(120)

    run(settings(BILLING_METER_BUCKET="trace"))

    assert states() == [("cancelled", "", CREDITS_OF_A_TRACE), ("accepted", "", HALF)]
    assert tally(stripe) == HALF


def test_cancel_needs_buckets_of_single_traces(settings):
    """One meter event of an hour covers many traces."""
    with pytest.raises(ConfigError, match="BILLING_METER_BUCKET to trace"):
        settings(BILLING_CORRECTIONS="cancel")


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("step", [Step.CLAIM_CANCEL, Step.STRIPE_CANCEL, Step.SETTLE_CANCEL])
def test_a_run_killed_while_cancelling_is_completed_by_the_next(put, run, settings, clock, stripe, balance, step, side):
    """In the end the customer has 250 credits, whether Stripe or the carry gives the rest back; never two in flight."""
    put("t1")
    run(settings(**CANCEL))
    put("t1", **FREE)
    assert killed_at(step, side, lambda: run(settings(**CANCEL)))
    clock.advance(120)

    run(settings(**CANCEL))
    ledger = settings(**CANCEL)
    for identifier in in_doubt(ledger):
        word = "arrived" if tally(stripe) else "not-sent"
        held_decisions.release(ledger, [identifier], word, why="its summary", by="anna", clock=clock)
    run(settings(**CANCEL))

    assert balance() == {"cus_1": HALF * CREDIT_MICROS}
    assert set(stripe.max_in_flight().values()) == {1}


def in_doubt(config):
    """The identifiers of meter events that are in doubt."""
    found = tallymark.held(config)["meter_events"]
    return [one["identifier"] for one in found if one["state"] == "in_doubt"]
