"""What the simulation found (tests/sim): rare things that meet, each a way to lose money or to count it twice."""

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US
from tallymark.flows.reconcile import reconcile
from tallymark.flows.sync import sync
from tallymark.sandbox.clock import OffsetClock
from tallymark.sandbox.faults import Fault, Faults

pytestmark = pytest.mark.usefixtures("proved")

ONE_TRACE = {("cus_1", "credits"): CREDITS_OF_A_TRACE}
TWO_TRACES = {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}
DAY_SECONDS = 86_400


@pytest.mark.usefixtures("undated")
@pytest.mark.parametrize("ahead_hours", [2, 26, 20 * 24])
def test_reports_are_found_after_a_clock_that_was_ahead(put, stripe, settings, clock, look, ahead_hours):
    """The last poll was made in the future: the next one still asks from the newest report on that Stripe has shown."""
    put("t1")
    sync(settings(), clock=clock)
    clock.advance(900)
    wrong = OffsetClock(clock)
    wrong.advance(ahead_hours * 3600)
    sync(settings(), clock=wrong)
    assert look("select count(*) from fact where name = 'reports polled'") == [(1,)]

    stripe.reject_next(1, "archived_meter")
    put("t2", at_us=clock.now_us() - HOUR_US)
    sync(settings(), clock=clock)
    clock.advance(900)
    sync(settings(), clock=clock)

    assert stripe.tally() == TWO_TRACES


def test_reports_of_more_than_a_month_ago_are_told_to_be_unseen(put, run, clock, caplog):
    """Stripe keeps them for thirty days: what was rejected before shows in reconcile only."""
    put("t1")
    run()
    clock.advance(900)
    run()
    clock.advance(40 * DAY_SECONDS)

    run()

    assert "last asked for its reports 40 days ago" in caplog.text


def test_an_old_report_does_not_take_back_what_was_sent_again(put, run, settings, clock, stripe, look):
    """Taken and rejected, never answered, found not counted, and sent again under its identifier, which counts: then
    the report on the first send comes. It names the identifier, and is no proof any more: the sums decide."""
    put("t1")
    stripe.reject_next(1, "archived_meter")
    lost = Faults(0, {Fault.RESET_AFTER: 1}, only=lambda request: request.path.endswith("/meter_events"))
    run(settings(stripe_faults=lost))
    clock.advance(30 * 3600)
    deaf = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.path.startswith("/v2/"))
    run(settings(stripe_faults=deaf))
    assert stripe.tally() == ONE_TRACE

    for _ in range(3):
        clock.advance(3600)
        run()

    assert stripe.tally() == ONE_TRACE
    assert look("select state, reissue from meter_event") == [("accepted", 0)]
    assert look("select state from notification") == [("applied",)]


def test_a_server_that_changed_its_mode_is_reconciled(put, langfuse, settings, run, clock):
    """Its version is the same, and what was chosen for the last sync does not work any more."""
    langfuse.set_generation("dual")
    put("t1")
    run()
    langfuse.set_generation("events_only")

    found, _ = reconcile(settings(), clock=clock)

    assert found.explained


def test_no_mark_is_written_on_a_trace_that_is_gone(put, langfuse, run, clock):
    """Its score went with it, which looks like a mark that was lost: it would come back as a score of nothing."""
    langfuse.set_generation("events_only")
    for number, hours in enumerate((4, 3, 2, 1)):
        put(f"t{number}", minutes_ago=60 * hours)
    run()
    langfuse.delete_trace(PROJECT, "t2")
    clock.advance(3600)

    first, second = run(full=True), run(full=True)

    assert (first.adjusted, first.marks.written, second.marks.written) == (1, 0, 0)
    assert langfuse.scores(PROJECT, "t2") == []


def test_usage_of_two_periods_ago_is_late_in_the_hour_after_a_period(put, run, stripe, look):
    """Stripe tells the period of now only, and that of the last one ended half an hour ago: its invoice is open still,
    and the one before that is not."""
    boundary_us = NOW_US - 30 * MINUTE_US
    stripe.add_subscription(
        "cus_1", "credits", started_at_us=NOW_US - 60 * DAY_US, period="day", anchor_us=boundary_us - 9 * DAY_US
    )
    put("old", minutes_ago=3 * 24 * 60)
    put("last", minutes_ago=5 * 60)

    run()

    assert look("select state from meter_event order by timestamp_s") == [("held",), ("accepted",)]
    assert stripe.lost() == []


def test_what_a_settled_doubt_takes_back_is_told_to_the_micro_credit(put, run, settings, clock, look):
    """A cancellation was carried out and never answered: `ledger verify` compares the decision with its lines."""
    to = {"BILLING_METER_BUCKET": "trace", "BILLING_CORRECTIONS": "cancel"}
    lost = Faults.script([(lambda request: request.path.endswith("adjustments"), Fault.RESET_AFTER)])
    put("t1", seconds=12.001)
    run(settings(**to))
    put("t1", seconds=12.001, cost="0.005")
    run(settings(stripe_faults=lost, **to))
    clock.advance(2 * 3600)

    run(settings(**to))

    assert look("select amount_micros from decision where verb = 'cancel'") == [(500_020_833,)]
