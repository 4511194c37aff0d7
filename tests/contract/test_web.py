"""The routes of the service: what they say, to whom, and what they refuse; sockets are in test_serve.py."""

import asyncio
import json
import logging
import re
import threading
from pathlib import Path

import httpx
import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US
from databases import DATABASES
from tallymark.core.clock import MINUTE_US, SECOND_US
from tallymark.errors import ConfigError, LedgerLocked
from tallymark.flows.service import Every, Job, Scheduler, jobs_for
from tallymark.ledger.jobs import Done
from tallymark.sandbox.faults import Fault, Faults
from tallymark.web.app import BODY_BYTES_MAX, make_app
from tallymark.web.run import require_tokens, serve

ROOT = Path(__file__).parents[2]
SECRET, TOKEN = "whsec_planted", "planted-token"
WEBHOOK = "/webhooks/stripe"


@pytest.fixture
def ask(settings, clock, ledger):
    """A function: ask the application, with these settings; what it answers."""
    apps = {}

    def send(path, method="GET", headers=None, body=None, **changes):
        key = tuple(sorted((name, id(value)) for name, value in changes.items()))
        app = apps.setdefault(key, make_app(settings(**changes), clock))

        async def go():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return await client.request(method, path, headers=headers or {}, content=body)

        return asyncio.run(go())

    return send


@pytest.fixture
def work(settings, clock, ledger_url):
    """A function: let the scheduler of a service do what is due."""

    def do(jobs=None, **changes):
        scheduler = Scheduler(ledger_url, jobs or jobs_for(settings(**changes)), clock, threading.Event())
        scheduler.plan()
        return scheduler.run_due()

    return do


def lines(caplog):
    """What was logged that a person should see."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def value_of(text, name):
    """The value of a metric."""
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).rpartition(" ")[2])


# ---- health and readiness


def test_a_process_that_answers_is_healthy(ask):
    """Whatever else is wrong."""
    assert (ask("/healthz").status_code, ask("/healthz").text) == (200, "ok\n")


@pytest.mark.databases(*DATABASES)
def test_ready_is_who_has_synced_lately(ask, work, clock):
    """Not before the first sync, and not when the last one that worked is older than the setting says."""
    assert ask("/readyz").text == "no sync has worked yet; the log says what it waits for.\n"

    assert work() == ["sync"]
    assert (ask("/readyz").status_code, ask("/readyz").text) == (200, "ready\n")

    clock.advance(61 * 60)
    answer = ask("/readyz")
    assert (answer.status_code, answer.text.startswith("the last sync that worked is 61 minutes old")) == (503, True)


def test_a_sync_that_fails_makes_nobody_ready(ask, work, clock):
    """Failing again and again is not working."""

    def fail(*_):
        return Done("Stripe is away")

    work([Job("sync", Every(5 * MINUTE_US), fail)])

    assert ask("/readyz").status_code == 503


def test_not_ready_without_keys_or_ledger_and_says_nothing_private(ask, tmp_path):
    """Anybody may ask: no path, no host, no key."""
    no_key = ask("/readyz", STRIPE_SECRET_KEY="")
    assert (no_key.status_code, no_key.text) == (503, "a setting is missing or wrong; `tallymark doctor` says which.\n")

    no_ledger = ask("/readyz", BILLING_LEDGER_URL=f"sqlite:///{tmp_path}/none.sqlite3")
    assert no_ledger.status_code == 503
    assert "LedgerMissing" in no_ledger.text
    assert str(tmp_path) not in no_ledger.text
    assert ask("/metrics", BILLING_LEDGER_URL=f"sqlite:///{tmp_path}/none.sqlite3").status_code == 503


# ---- metrics


@pytest.mark.databases(*DATABASES)
def test_metrics_tell_what_the_ledger_holds(ask, work, put, clock):
    """Sent, held, requests and runs; and no customer, trace or key."""
    put("t1", customer="cus_private", minutes_ago=60)
    put("t2", customer=None, minutes_ago=60)
    work()
    clock.advance(20)
    found = ask("/metrics").text

    assert 'tallymark_held_traces{reason="no_customer"} 1.0' in found
    assert "tallymark_accepted_meter_events_total 1.0" in found
    assert "tallymark_owed_credits 0.0" in found
    assert 'tallymark_meter_events{state="in_doubt"} 0.0' in found
    assert 'tallymark_job_run_seconds_count{job="sync"} 1.0' in found
    assert 'tallymark_job_failures_total{job="sync"} 0.0' in found
    assert value_of(found, 'tallymark_job_last_success_timestamp_seconds{job="sync"}') // 1 == NOW_US // SECOND_US
    assert "tallymark_read_lag_seconds 920.0" in found
    assert 'tallymark_alert{rule="spend"} 0.0' in found
    assert 'tallymark_requests_total{service="stripe"} 0.0' not in found
    assert not [word for word in ("cus_private", "t1", "sk_test", "pk-lf", "sk-lf") if word in found]


def test_every_metric_is_documented_and_every_alert_asks_for_one_that_is_there(ask, work):
    """Names in the page and in the rules are those that are served."""
    work()
    served = set(re.findall(r"^# TYPE (\S+)", ask("/metrics").text, re.MULTILINE))
    page = (ROOT / "docs" / "howto" / "run-in-production.md").read_text("utf-8")
    rules = (ROOT / "examples" / "prometheus-rules.yml").read_text("utf-8")
    listed = set(re.findall(r"tallymark_\w+", page))

    assert listed == served
    assert len(served) == 17
    assert set(re.findall(r"tallymark_\w+", rules)) <= served


def test_owed_is_what_was_recorded_and_is_not_sent(ask, work, put, stripe):
    """Stripe is away: the credits are owed."""
    put("t1", customer="cus_1", minutes_ago=60)
    away = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: "meter_events" in request.path)
    work(stripe_faults=away)

    assert f"tallymark_owed_credits {float(CREDITS_OF_A_TRACE)}" in ask("/metrics").text


def test_metrics_ask_for_the_token_if_there_is_one(ask):
    """The others need none: who watches processes has no secrets."""
    protected = {"BILLING_API_TOKEN": TOKEN}
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer \xff"}):
        raw = {name: value.encode("latin-1") for name, value in header.items()}
        answer = ask("/metrics", headers=raw, **protected)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in answer.text

    assert ask("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, **protected).status_code == 200
    assert ask("/healthz", **protected).status_code == 200
    assert ask("/readyz", **protected).status_code == 503


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "billing.example.com", "", "127.0.0.1.example.com"])
def test_other_machines_are_not_served_without_a_token(settings, host):
    """The setting is named."""
    with pytest.raises(ConfigError, match="BILLING_API_TOKEN"):
        require_tokens(settings(), host)
    require_tokens(settings(BILLING_API_TOKEN=TOKEN), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_is_served_without_a_token(settings, host):
    """Loopback, by whatever name."""
    require_tokens(settings(), host)


@pytest.mark.parametrize("host", ["x" * 64, "a..b", "\0", "☃", "", " ", "256.0.0.1", "[::1]", "203.0.113.1"])
def test_an_address_that_cannot_be_listened_on_is_a_sentence(settings, host):
    """A typed mistake, or an address of another machine."""
    with pytest.raises(ConfigError, match="--host and --port"):
        serve(settings(BILLING_API_TOKEN=TOKEN), host, 0, print)


# ---- the webhook


@pytest.fixture
def report(put, run, settings, strict, clock):
    """The notification on a trace that was sent to a customer who does not exist."""
    put("t1", customer="cus_1", minutes_ago=60)
    run(settings(bill_to=strict), full=True)
    clock.advance(30)
    (body,) = strict.notifications()
    return body


@pytest.fixture
def deliver(ask, strict):
    """A function: send a webhook, signed rightly unless told otherwise."""

    def send(body, signature=None, **changes):
        headers = {"Stripe-Signature": strict.sign(body, SECRET) if signature is None else signature}
        to = {"BILLING_STRIPE_WEBHOOK_SECRET": SECRET, "bill_to": strict, **changes}
        return ask(WEBHOOK, "POST", headers, body, **to)

    return send


def webhooks(ask, strict):
    """The counts of webhooks, by outcome, that are not 0."""
    text = ask("/metrics", BILLING_STRIPE_WEBHOOK_SECRET=SECRET, bill_to=strict).text
    found = [line.split('"') for line in text.splitlines() if line.startswith("tallymark_webhooks_total")]
    return {outcome: int(float(count.strip("} "))) for _, outcome, count in found if count != "} 0.0"}


def test_a_report_is_taken_once_however_often_it_comes(report, deliver, ask, strict, look):
    """What Stripe did not count is owed again; a webhook that is replayed within minutes changes nothing."""
    answers = [deliver(report) for _ in range(3)]

    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "taken\n")] * 3
    assert look("select state, count(*) from meter_event group by state") == [("rejected", 1)]
    assert look("select count(*) from decision where verb = 'report'") == [(1,)]
    assert webhooks(ask, strict) == {"taken": 3}


def test_another_kind_of_webhook_is_answered_and_forgotten(deliver):
    """Stripe would send it again for days otherwise."""
    body = json.dumps({"id": "evt_2", "object": "event", "type": "invoice.created", "created": 1}).encode()

    assert (deliver(body).status_code, deliver(body).text) == (200, "ignored\n")


def test_a_change_of_a_customer_that_cannot_be_stored_comes_again(deliver, ask, strict, monkeypatch):
    """As a report does; then it is taken, any number of times."""
    thing = {"data": {"object": {"id": "sub_1", "customer": "cus_1"}}, "created": NOW_US // SECOND_US}
    body = json.dumps({"id": "evt_3", "type": "customer.subscription.updated", **thing}).encode()

    def locked(*_, **__):
        raise LedgerLocked("another process holds the ledger")

    with monkeypatch.context() as patched:
        patched.setattr("tallymark.flows.reports.using_ledger", locked)
        assert deliver(body).status_code == 503
    assert [(deliver(body).status_code, deliver(body).text) for _ in range(2)] == [(200, "taken\n")] * 2
    assert webhooks(ask, strict) == {"failed": 1, "taken": 4}


@pytest.mark.parametrize("wrong", ["another secret", "another body", "nothing", "nonsense"])
def test_a_wrong_signature_is_refused_and_logged_once(report, deliver, strict, look, caplog, wrong):
    """The sender learns nothing, the log neither the body nor a secret."""
    signature = {
        "another secret": strict.sign(report, "whsec_other"),
        "another body": strict.sign(report + b" ", SECRET),
        "nothing": "",
        "nonsense": "t=1,v1=\xff",
    }[wrong]
    caplog.clear()
    answer = deliver(report, signature.encode("latin-1"))

    assert (answer.status_code, answer.text) == (400, "refused\n")
    (line,) = lines(caplog)
    assert line.startswith("a webhook was refused: the webhook's signature is missing or wrong")
    assert not [word for word in (SECRET, "whsec_other", "evt_", json.loads(report)["id"]) if word in line]
    assert look("select count(*) from notification") == [(0,)]


def test_an_old_webhook_that_is_replayed_is_refused_and_logged_once(report, deliver, strict, clock, look, caplog):
    """Recorded, and sent again an hour later."""
    signature = strict.sign(report, SECRET)
    clock.advance(3600)
    caplog.clear()

    assert deliver(report, signature).status_code == 400
    (line,) = lines(caplog)
    assert "signed too long ago" in line
    assert look("select count(*) from notification") == [(0,)]


def test_an_oversized_body_is_refused_before_it_is_looked_at(deliver, strict, ask, caplog):
    """Even one that is signed; nothing of it is logged."""
    largest = b" " * BODY_BYTES_MAX
    assert deliver(largest).status_code == 400
    caplog.clear()

    assert deliver(largest + b"x").status_code == 413
    (line,) = lines(caplog)
    assert line == "a webhook was refused: larger than a webhook of Stripe is"
    assert webhooks(ask, strict) == {"refused": 2}


def test_a_webhook_that_cannot_be_stored_comes_again(report, deliver, ask, strict, monkeypatch, caplog):
    """Stripe repeats what is not answered with 2xx, and the next poll finds it in any case."""

    def locked(*_, **__):
        raise LedgerLocked("another process holds the ledger")

    with monkeypatch.context() as patched:
        patched.setattr("tallymark.flows.reports.using_ledger", locked)
        answer = deliver(report)
    assert (answer.status_code, answer.text) == (503, "not taken; send it again.\n")
    assert len([line for line in lines(caplog) if "another process holds the ledger" in line]) == 1

    assert deliver(report).status_code == 200
    assert webhooks(ask, strict) == {"failed": 1, "taken": 1}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", WEBHOOK, 405), ("POST", "/metrics", 405), ("GET", "/nothing", 404), ("GET", "/../etc/passwd", 404)],
)
def test_nothing_else_is_served(ask, method, path, status):
    """No other method, no other path."""
    assert ask(path, method).status_code == status
