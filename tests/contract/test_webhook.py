"""Stripe's webhooks: only what it signed is taken, once, in any order, and nothing of it is lost."""

import json

import pytest

import tallymark
from builders import CREDITS_OF_A_TRACE
from tallymark.errors import ConfigError, NotificationRefused
from tallymark.flows.reports import receive_webhook
from tallymark.sandbox.faults import Fault, Faults

SECRET = "whsec_planted"
ONE_TRACE = {("cus_1", "credits"): CREDITS_OF_A_TRACE}
FETCHES = "GET /v2/core/events/{id}"


@pytest.fixture
def reported(put, run, settings, strict, clock):
    """The notifications on three traces that were sent, one after another, to customers who do not exist."""
    for number in range(3):
        put(f"t{number}", customer=f"cus_{number}", minutes_ago=60 - number)
        run(settings(bill_to=strict), full=True)
        clock.advance(30)  # each in a window of its own, and too soon for a poll
    bodies = strict.notifications()
    assert len(bodies) == 3
    return bodies


@pytest.fixture
def receive(settings, strict, clock, ledger):
    """A function: take a webhook, signed rightly unless told otherwise."""

    def take(body, signature=None, **changes):
        to = settings(bill_to=strict, **{"BILLING_STRIPE_WEBHOOK_SECRET": SECRET, **changes})
        return receive_webhook(to, body, strict.sign(body, SECRET) if signature is None else signature, clock)

    return take


def stored(look):
    return look("select state, count(*) from notification group by state")


# ---- what is taken


def test_a_webhook_takes_its_usage_back_at_once(reported, receive, look):
    """Stored, fetched and applied before the next run."""
    assert receive(reported[0]) is True

    assert look("select customer_id, state from meter_event order by customer_id") == [
        ("cus_0", "rejected"),
        ("cus_1", "accepted"),
        ("cus_2", "accepted"),
    ]


def test_webhooks_come_in_any_order_and_more_than_once(reported, receive, look, run, settings, strict, clock):
    """Stripe promises neither order nor once; the poll brings the same ones again."""
    for body in [*reversed(reported), *reported]:
        assert receive(body) is True
    assert strict.counts()[FETCHES] == 3
    clock.advance(600)
    run(settings(bill_to=strict))

    assert stored(look) == [("applied", 3)]
    assert look("select count(*) from decision where verb = 'report'") == [(3,)]
    assert strict.counts()[FETCHES] == 3


def test_usage_that_a_webhook_reported_is_billed_once(reported, receive, run, settings, strict, clock):
    """Create the customers, deliver everything twice, sync: exact."""
    for body in reported:
        receive(body)
    for number in range(3):
        strict.add_customer(f"cus_{number}")

    for _ in range(3):
        run(settings(bill_to=strict))
        for body in reported:
            receive(body)
        clock.advance(60)

    assert set(strict.tally().values()) == {CREDITS_OF_A_TRACE}
    assert len(strict.meter_events()) == 6


def test_a_webhook_whose_report_cannot_be_fetched_waits_for_the_next_sync(
    reported, receive, look, run, settings, strict, caplog
):
    """Stripe is told 200, so that it does not come again for days; the report is not forgotten."""
    away = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.path.startswith("/v2/"))

    assert receive(reported[0], stripe_faults=away) is True
    assert stored(look) == [("received", 1)]
    assert "cannot be fetched now" in caplog.text

    assert run(settings(bill_to=strict)).meter_events.reported == 1


def test_a_webhook_of_another_type_is_no_report(receive, look):
    """The endpoint may get more than it needs; such webhooks are answered and forgotten."""
    assert (
        receive(json.dumps({"id": "evt_1", "object": "v2.core.event", "type": "v1.billing.meter.created"}).encode())
        is False
    )
    assert (
        receive(json.dumps({"id": "evt_2", "object": "event", "type": "invoice.created", "created": 1}).encode())
        is False
    )
    assert stored(look) == []


# ---- what is refused


@pytest.mark.parametrize(
    "signature", ["", "t=1", "v1=abc", "t=x,v1=y", "nonsense", "t=1,v1=" + "0" * 64, "t=1,v1=\xff"]
)
def test_a_missing_or_wrong_signature_is_refused(reported, receive, look, signature):
    """The error is named, and holds neither the secret nor the body."""
    with pytest.raises(NotificationRefused, match="BILLING_STRIPE_WEBHOOK_SECRET") as caught:
        receive(reported[0], signature)

    assert SECRET not in str(caught.value)
    assert "evt_" not in str(caught.value)
    assert stored(look) == []


def test_another_secret_or_another_body_is_refused(reported, receive, strict):
    """The signature belongs to this body and this secret."""
    for signature in (strict.sign(reported[0], "whsec_other"), strict.sign(reported[1], SECRET)):
        with pytest.raises(NotificationRefused, match="missing or wrong"):
            receive(reported[0], signature)


@pytest.mark.parametrize("seconds", [-301, 301, -86_400])
def test_an_old_or_future_signature_is_refused(reported, receive, strict, clock, seconds):
    """A recorded webhook cannot be played again later; five minutes are for clocks and queues."""
    now_seconds = clock.now_us() // 1_000_000

    with pytest.raises(NotificationRefused, match="too long ago"):
        receive(reported[0], strict.sign(reported[0], SECRET, now_seconds + seconds))
    assert receive(reported[0], strict.sign(reported[0], SECRET, now_seconds - 299)) is True


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"id":"evt_1","type":"v1.billing.meter.error_report_triggered","created":"yesterday"}',
        b'{"id":7,"type":"v1.billing.meter.error_report_triggered","created":"2026-11-23T12:00:00Z"}',
    ],
)
def test_a_body_that_is_no_notification_is_refused(receive, strict, look, body):
    """Signed, and damaged all the same."""
    signature = strict.sign(body, SECRET)

    with pytest.raises(NotificationRefused, match=r"body|missing or wrong"):
        receive(body, signature)
    assert stored(look) == []


def test_without_a_signing_secret_nothing_is_taken(reported, settings, strict):
    """The setting is named."""
    with pytest.raises(ConfigError, match="BILLING_STRIPE_WEBHOOK_SECRET"):
        tallymark.receive_stripe_report(settings(bill_to=strict), reported[0], strict.sign(reported[0], SECRET))
