"""Bad input around sending: a clock that went backwards, a meter deactivated in the middle, a key of the wrong mode."""

import logging

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.errors import ClockAhead
from tallymark.flows.doctor import doctor
from tallymark.flows.sync import sync
from tallymark.sandbox.clock import VirtualClock
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe

pytestmark = pytest.mark.usefixtures("proved")


def is_meter_event(request):
    """Whether a meter event is sent."""
    return request.path.endswith("/meter_events")


@pytest.fixture
def run_ahead(settings, clock):
    """A function that syncs on a machine whose clock is ahead of the world's by some seconds, or behind it."""

    def once(seconds, to=None, **request):
        return sync(to or settings(), clock=VirtualClock(clock.now_us() + int(seconds * SECOND_US)), **request)

    return once


# ---- the clock


def test_on_a_clock_that_is_ahead_of_the_servers_nothing_is_read_or_sent(put, run, run_ahead, stripe, balance):
    """Its sends would look young for as long as it was ahead, and be sent again when Stripe has forgotten them."""
    put("t1")

    with pytest.raises(ClockAhead, match=r"31 minutes ahead.*NTP"):
        run_ahead(31 * 60, full=True)
    assert stripe.meter_events() == []

    run_ahead(29 * 60, full=True)
    run(full=True)
    assert balance() == {"cus_1": CREDITS_OF_A_TRACE * 1_000_000}


@pytest.mark.usefixtures("undated")
@pytest.mark.parametrize("hours", [1, 30, 24 * 400])
def test_after_a_clock_that_was_ahead_everything_is_billed_once(put, run, run_ahead, clock, balance, hours):
    """What it had covered is read again; nothing is skipped until the time comes, and nothing is billed twice."""
    put("before", minutes_ago=120)
    run_ahead(hours * 3600, from_us=NOW_US - DAY_US)
    for number in range(3):
        clock.advance(3600)
        put(f"after-{number}", at_us=clock.now_us() - 30 * MINUTE_US)
        run()

    assert balance() == {"cus_1": 4 * CREDITS_OF_A_TRACE * 1_000_000}


@pytest.mark.usefixtures("undated")
@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.RESET_BEFORE])
def test_an_unanswered_send_of_a_wrong_clock_is_a_doubt(put, run, run_ahead, settings, stripe, fault):
    """How old it is nobody knows, so it is not sent again blindly: Stripe may have forgotten its identifier."""
    put("t1")
    run_ahead(2 * 86_400, settings(stripe_faults=Faults.script([(is_meter_event, fault)] * 1000)), full=True)
    sent = len(stripe.meter_events())

    summary = run()

    assert summary.held["in_doubt"] == 1
    assert len(stripe.meter_events()) == sent


def test_a_clock_that_went_backwards_is_said_by_sync_and_doctor(put, run, run_ahead, settings, clock, caplog):
    """Once a run, with both times; a few minutes are no matter."""
    put("t1")
    run()
    with caplog.at_level(logging.WARNING):
        run_ahead(-4 * 60)
        assert "backwards" not in caplog.text
        run_ahead(-3600)

    assert caplog.text.count("backwards") == 1
    found = [one for one in doctor(settings(), VirtualClock(NOW_US - HOUR_US)) if "backwards" in one.detail]
    assert [one.status for one in found] == ["warning"]


# ---- a meter deactivated in the middle of a run


class DeactivatedAfter:
    """A sandbox Stripe whose meter is deactivated after some meter events."""

    def __init__(self, stripe, number):
        self.stripe, self.left = stripe, number

    def handle(self, request):
        """Pass a request on, once the meter is still active."""
        if is_meter_event(request):
            self.left -= 1
            if self.left < 0:
                self.switch("deactivate")
        return self.stripe.handle(request)

    def switch(self, verb):
        """Deactivate or reactivate the meter as its owner does."""
        from tallymark.sandbox.wire import Request

        (meter,) = self.stripe._meters.list({}, "")["data"]
        headers = {"authorization": "Bearer sk_test_sandbox"}
        self.stripe.handle(Request("POST", f"/v1/billing/meters/{meter['id']}/{verb}", (), headers, b""))


def test_a_meter_deactivated_in_the_middle_of_a_run(put, run, settings, stripe):
    """What was refused stays, the run says so and ends with 1; after reactivation the bill is exact."""
    for number in range(10):
        put(f"t{number}", customer=f"cus_{number}")
    failing = DeactivatedAfter(stripe, 4)

    summary = run(settings(bill_to=failing))

    assert (summary.processed, summary.failed, summary.exit_status) == (4, 6, 1)
    assert summary.meter_events.rejected == 6
    assert {failure.error.split(" for ")[0] for failure in summary.failures} == {"400: No active meter found"}

    failing.left = 1000
    failing.switch("reactivate")
    run(settings(bill_to=failing))
    assert set(stripe.tally().values()) == {CREDITS_OF_A_TRACE}
    assert len(stripe.tally()) == 10


# ---- a test key against live customers


@pytest.fixture
def live(clock):
    """A sandbox Stripe in test mode whose customers are live ones."""
    sandbox = SandboxStripe(clock=clock, any_customer=False, unknown_customer="sync")
    sandbox.add_meter("credits")
    sandbox.add_customer("cus_1", livemode=True)
    return sandbox


def test_doctor_names_a_key_of_the_wrong_mode(put, run, settings, live, clock):
    """In Stripe's words, for customers of the mappings, and for those that were billed before."""
    to = settings(bill_to=live, BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_1")
    said = [one.detail for one in doctor(to, clock) if one.check == "customers"]
    assert len(said) == 1
    assert "live mode" in said[0]

    put("t1")
    run(settings(bill_to=live))
    said = [one.detail for one in doctor(settings(bill_to=live), clock) if one.check == "customers"]
    assert "live mode" in said[0]


def test_usage_under_a_key_of_the_wrong_mode_is_not_lost(put, run, settings, live, stripe):
    """Rejected and counted as failed, with Stripe's words; with the right key it is billed, once."""
    put("t1")

    summary = run(settings(bill_to=live))

    assert (summary.failed, summary.exit_status) == (1, 1)
    assert "No such customer" in summary.failures[0].error
    run(settings(bill_to=stripe))
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}
