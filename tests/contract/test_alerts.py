"""Alerts from a real ledger to a real webhook: told once, reminded daily, recovered; none lost, none in a loop."""

import json
import logging
import threading

import pytest

from builders import NOW_US
from databases import DATABASES
from tallymark import config, failpoints
from tallymark.core.clock import HOUR_US, MINUTE_US
from tallymark.errors import ConfigError
from tallymark.failpoints import Side, Step
from tallymark.flows.alerts import ALERTS, alert, alert_jobs, alerts
from tallymark.flows.service import SYNC, Every, Job, Scheduler
from tallymark.ledger.jobs import Done
from tallymark.rating.cards import card_text
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.wire import Response

SECRET_PATH = "/services/T000/B000/key-of-the-channel-0123"


class Channel:
    """A chat that takes webhooks, answers what it is told to, and keeps what it took."""

    def __init__(self):
        self.status, self.got = 200, []

    def handle(self, request):
        """Take one."""
        assert (request.method, request.path) == ("POST", SECRET_PATH)
        self.got.append(json.loads(request.body))
        return Response(self.status, b"ok", {"location": "http://127.0.0.1:9/elsewhere"})

    def told(self):
        """Status, rule and subject of everything that was told so far, and forget it."""
        told = [tuple(one[name] for name in ("status", "rule", "subject")) for got in self.got for one in got["alerts"]]
        self.got.clear()
        return told


@pytest.fixture
def channel():
    """Where alerts go."""
    return Channel()


@pytest.fixture
def look_out(settings, serving, channel, clock):
    """A function: look once, some minutes after the last time."""
    url = serving(channel) + SECRET_PATH

    def once(minutes=5, **changes):
        clock.advance(minutes * 60)
        alert(settings(**{"BILLING_ALERT_WEBHOOK_URL": url, **changes}), clock)

    return once


@pytest.fixture
def behind(put, run, clock):
    """A ledger that has not been read for hours; nothing else is wrong with it."""
    put("t1", minutes_ago=60)
    run(full=True)
    clock.advance(5 * 3600)


def lines(caplog):
    """What was logged for people."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def stop():
    """What stops a scheduler."""
    return threading.Event()


# ---- when it is told


@pytest.mark.databases(*DATABASES)
def test_an_alert_is_told_when_it_begins_daily_and_at_its_end(behind, look_out, channel, run, ledger, look):
    """And not in between; after its end the ledger has forgotten it."""
    look_out()
    assert channel.told() == [("began", "lag", "")]
    for _ in range(12):
        look_out(60)
    assert channel.told() == []
    assert [one.rule for one in alerts(ledger, 10).items] == ["lag"]

    look_out(13 * 60, BILLING_ALERT_STOPPED_HOURS="1000")
    assert channel.told() == [("goes on", "lag", "")]
    run()
    look_out(15, BILLING_ALERT_STOPPED_HOURS="1000")
    assert channel.told() == [("over", "lag", "")]
    look_out(BILLING_ALERT_STOPPED_HOURS="1000")
    assert (channel.told(), look("select count(*) from alert")) == ([], [(0,)])


def test_what_comes_and_goes_within_ten_minutes_is_one_alert(behind, look_out, channel, run, clock):
    """Otherwise a value that swings around its limit would ring all day."""
    look_out()
    run()
    look_out()
    clock.advance(2 * 3600)
    look_out(0)
    assert channel.told() == [("began", "lag", "")]


def test_a_message_is_for_people_and_for_machines(put, run, look_out, channel):
    """Slack shows `text`, with its three characters escaped; the rest is exact."""
    put("t1", customer="cus_<!channel>&co", minutes_ago=60)
    run(full=True)
    look_out(BILLING_ALERT_CUSTOMER_CREDITS="499.5")

    (got,) = channel.got
    assert got["text"] == (
        "tallymark: 1 began\n• began: spend: customer cus_&lt;!channel&gt;&amp;co has used 500.000000 credits since "
        "2026-11-01T00:00:00.000Z."
    )
    assert got["source"] == "tallymark"
    assert {name: got["alerts"][0][name] for name in ("status", "rule", "subject", "value", "limit", "unit")} == {
        "status": "began",
        "rule": "spend",
        "subject": "cus_<!channel>&co",
        "value": "500.000000",
        "limit": "499.5",
        "unit": "credits",
    }


def test_many_alerts_are_one_message(put, run, look_out, channel):
    """People read twenty lines of it, machines all."""
    for number in range(25):
        put(f"t{number}", customer=f"cus_{number:02}")
    run(full=True)
    look_out(BILLING_ALERT_CUSTOMER_CREDITS="1")

    (got,) = channel.got
    assert (len(got["alerts"]), len(got["text"].splitlines())) == (25, 22)
    assert got["text"].endswith("and 5 more: GET /api/v1/alerts")


def test_without_a_webhook_the_log_tells(behind, look_out, caplog):
    """Once, and its end."""
    for _ in range(3):
        look_out(BILLING_ALERT_WEBHOOK_URL="")
    assert [line[:17] for line in lines(caplog)] == ["alert began: lag:"]


# ---- when the webhook fails, and when the process is lost


@pytest.mark.parametrize("status", [302, 404, 429, 503])
def test_a_webhook_that_fails_is_asked_again_and_logged_once(behind, look_out, channel, caplog, status):
    """Its address is a key, and appears nowhere; when it works again that is one line more."""
    channel.status = status
    for _ in range(3):
        look_out()
    assert channel.told() == [("began", "lag", "")] * 3
    channel.status = 200
    look_out()
    look_out()
    assert channel.told() == [("began", "lag", "")]

    began, failed, works = lines(caplog)
    assert began.startswith("alert began: lag: usage is read up to 2026-11-23T11:45:00.000Z only")
    assert f"BILLING_ALERT_WEBHOOK_URL answered {status}." in failed
    assert works == "alerts can be sent again"
    assert "key-of-the-channel" not in caplog.text


def test_a_webhook_that_is_not_there_is_logged_without_its_address(behind, look_out, look, caplog):
    """Neither in the log nor in the ledger."""
    look_out(BILLING_ALERT_WEBHOOK_URL="http://127.0.0.1:9/services/key-of-the-channel")

    assert "cannot be reached" in lines(caplog)[1]
    assert "key-of-the-channel" not in caplog.text + str(look("select * from fact"))


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("side", Side)
def test_killed_around_its_request_it_is_told_again_a_run_later(behind, look_out, channel, stopped, side, status):
    """Whether it was taken nobody knows: told twice at worst, lost never, and not again at once."""
    channel.status = status
    with stopped(Step.ALERT_SEND, side):
        look_out()
    channel.status = 200
    for _ in range(4):
        look_out(0.5)
    assert len(channel.told()) == (1 if side is Side.AFTER else 0)
    look_out()
    look_out()
    assert channel.told() == [("began", "lag", "")]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("commit", [1, 2, 3])
def test_killed_around_a_commit_it_is_told_once_more_at_worst(behind, look_out, channel, commit, side):
    """It is noted (1), taken (2), and told (3): only where it was told and that is not stored, it is told twice."""
    reached = []

    def stop(*place):
        reached.append(place)
        if reached.count((Step.PUT_ALERTS, side)) == commit:
            raise KeyboardInterrupt

    failpoints.arm(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            look_out()
    finally:
        failpoints.arm(None)
    for _ in range(3):
        look_out()
    twice = (commit, side) == (3, Side.BEFORE)
    assert channel.told() == [("began", "lag", "")] * (2 if twice else 1)


def test_an_end_that_could_not_be_told_is_told_later(behind, look_out, channel, run):
    """And what began and ended while the webhook was away is told as over."""
    channel.status = 500
    look_out()
    run()
    look_out(15)
    channel.told()
    channel.status = 200
    look_out()
    look_out()
    assert channel.told() == [("over", "lag", "")]


# ---- what is looked at, in real ledgers


def test_leakage_is_what_nobody_is_billed_for_after_a_day(put, run, look_out, channel):
    """By why; a price that is not known is not hidden by a sum."""
    put("nobody", customer=None, minutes_ago=60)
    put("unpriced", cost=None, minutes_ago=60)
    run(full=True)
    look_out(22 * 60, BILLING_ALERT_LAG_MINUTES="100000")
    assert channel.told() == []
    look_out(2 * 60, BILLING_ALERT_LAG_MINUTES="100000")

    told = {one["subject"]: one["text"] for got in channel.got for one in got["alerts"]}
    assert told == {
        "no_customer": "traces not billed after 24 hours, held as no_customer: 1, worth 500.000000 credits.",
        "unpriced": "traces not billed after 24 hours, held as unpriced: 1.",
    }


def test_what_stripe_does_not_take_leaks_after_a_day(put, run, settings, look_out, channel, clock):
    """Recorded, and not sent."""
    put("t1")
    away = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: "meter_events" in request.path)
    run(settings(stripe_faults=away), full=True)
    for _ in range(3):
        look_out(10 * 60, BILLING_ALERT_LAG_MINUTES="100000")

    assert ("began", "leakage", "unsent") in channel.told()


def test_a_loss_is_cost_above_revenue(put, run, look_out, channel, settings):
    """What is given away at half its cost."""
    put("t1", cost="4", seconds=1)
    run(settings(BILLING_MARGIN_MULTIPLIER="0.5"), full=True)
    look_out()
    assert channel.told() == [("began", "negative_margin", "cus_1")]


@pytest.mark.databases(*DATABASES)
def test_the_period_to_date_is_the_customers_own(put, run, look_out, channel, stripe, clock):
    """Of who has a subscription since yesterday only what is since then."""
    stripe.add_subscription(
        "cus_1", event_name="credits", started_at_us=clock.now_us() - 2 * HOUR_US, period=7 * 86_400
    )
    for customer in ("cus_1", "cus_2"):
        put(f"{customer} before", customer=customer, minutes_ago=60 * 24 * 3)
        put(f"{customer} since", customer=customer, minutes_ago=60)
    run(full=True)
    look_out(BILLING_ALERT_CUSTOMER_CREDITS="600", BILLING_ALERT_HELD_CREDITS="1000000")
    assert channel.told() == [("began", "spend", "cus_2")]


def test_usage_that_stopped_is_seen_from_where_it_is_read_up_to(put, run, look_out, channel, clock):
    """Of everybody, and of a customer if that is asked for."""
    put("t1", customer="cus_1", minutes_ago=300)
    put("t2", customer="cus_2", minutes_ago=20)
    run(full=True)
    look_out(BILLING_ALERT_STOPPED_HOURS="4", BILLING_ALERT_CUSTOMER_STOPPED_HOURS="4")
    assert channel.told() == [("began", "usage_stopped", "cus_1")]
    clock.advance(5 * 3600)
    run()
    look_out(BILLING_ALERT_STOPPED_HOURS="4", BILLING_ALERT_CUSTOMER_STOPPED_HOURS="4")
    assert channel.told() == [("began", "usage_stopped", ""), ("began", "usage_stopped", "cus_2")]


def test_drift_lasts_until_a_reconciliation_as_long_explains_it(ledger, look_out, channel):
    """A narrower one that is clean proves nothing about the rest."""

    card = config.load(None, {}).rate_card

    def reconciled(number, days, explained):
        ledger.start_run(f"run-{number}", "reconcile", NOW_US - HOUR_US + number, card.digest, card_text(card))
        found = {"from": f"2026-11-{22 - days:02}T00:00:00Z", "to": "2026-11-22T00:00:00Z", "explained": explained}
        ledger.finish_run(f"run-{number}", json.dumps(found).encode(), NOW_US - HOUR_US + number)

    reconciled(1, 7, False)
    reconciled(2, 1, True)
    look_out()
    assert channel.told() == [("began", "drift", "")]
    reconciled(3, 7, True)
    look_out(15)
    assert channel.told() == [("over", "drift", "")]


@pytest.mark.databases(*DATABASES)
def test_a_job_that_fails_again_and_again(ledger_url, clock, stop, look_out, channel):
    """Three times in a row; once that it works ends it."""
    works = []

    def sync(_clock, _progress, *_):
        return Done("" if works else "Langfuse is away.")

    scheduler = Scheduler(ledger_url, [Job(SYNC, Every(MINUTE_US), sync)], clock, stop, lambda most: 0)
    scheduler.plan()
    for expected in ([], [], [("began", "failures", "sync")]):
        scheduler.run_due()
        clock.advance(60)
        look_out(0)
        assert channel.told() == expected
    works.append(True)
    scheduler.run_due()
    look_out(15)
    assert channel.told() == [("over", "failures", "sync")]


# ---- as a job


def test_the_job_runs_under_a_lease_of_its_own(settings, ledger_url, clock, stop, behind, look):
    """Beside the others, every five minutes; a failing webhook is no failure of the job."""
    jobs = alert_jobs(settings(BILLING_ALERT_WEBHOOK_URL="http://127.0.0.1:9/x"))
    scheduler = Scheduler(ledger_url, jobs, clock, stop, lambda most: 0)
    scheduler.plan()
    assert scheduler.run_due() == []
    clock.advance(300)
    assert scheduler.run_due() == [ALERTS]
    clock.advance(299)
    assert scheduler.run_due() == []
    clock.advance(1)
    assert scheduler.run_due() == [ALERTS]
    assert look("select name, runs, failures from job") == [(ALERTS, 2, 0)]


def test_a_page_of_alerts_ends_where_the_next_begins(put, run, look_out, ledger):
    """By rule and subject."""
    for number in range(5):
        put(f"t{number}", customer=f"cus_{number}")
    run(full=True)
    look_out(BILLING_ALERT_CUSTOMER_CREDITS="1")

    seen, cursor = [], None
    while True:
        page = alerts(ledger, 2, cursor)
        seen += [one.subject for one in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == [f"cus_{number}" for number in range(5)]
    with pytest.raises(ConfigError, match="cursor"):
        alerts(ledger, 2, "nonsense")
