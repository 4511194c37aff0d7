"""The first page: what a fresh machine is told, how billing stands, and sums that agree with the ledger."""

import threading

import pytest

from builders import CREDITS_OF_A_TRACE
from databases import DATABASES
from tallymark.flows.service import Scheduler, jobs_for
from tallymark.sandbox.faults import Fault, Faults
from web_callers import READER, Browser

KEYS = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "STRIPE_SECRET_KEY")


@pytest.fixture
def visitor(connect):
    """A function: a reader in front of the dashboard of these settings."""

    def arrive(**changes):
        made = Browser(connect(**changes))
        made.sign_in(READER)
        return made

    return arrive


@pytest.mark.parametrize("missing", [*KEYS, ""])
def test_a_fresh_machine_says_what_to_set(visitor, tmp_path, missing):
    """By exact name, and nothing that is set; without a ledger no page is a traceback, and none is made."""
    changes = {"BILLING_LEDGER_URL": f"sqlite:///{tmp_path}/none.sqlite3", **({missing: ""} if missing else {})}
    made = visitor(**changes)
    shown = made.get("/").text
    named = "BILLING_STRIPE_SECRET_KEY" if missing == KEYS[2] else missing

    assert ("What to set" in shown) is bool(missing)
    assert [key for key in (*KEYS[:2], "BILLING_STRIPE_SECRET_KEY") if f"<code>{key}</code>" in shown] == [named][
        : bool(named)
    ]
    assert ("The first sync begins by itself" in shown) is not bool(missing)
    assert "there is no ledger yet" in made.get("/runs").text
    assert list(tmp_path.iterdir()) == []


def test_an_empty_ledger_says_what_happens_next(visitor, ledger):
    """Keys are there, and the first sync is on its way."""
    assert "it reads the last 7 days" in visitor().get("/").text


@pytest.mark.databases(*DATABASES)
def test_the_sums_are_those_of_the_ledger(api, visitor, put, run, settings, clock, stripe):
    """Sent today and this month, owed, held, in doubt, by age; and the page's days agree with usage."""
    put("yesterday", minutes_ago=30 * 60)
    put("now", minutes_ago=50)
    put("nobodys", customer=None, minutes_ago=100)
    put("nobodys-old", customer=None, minutes_ago=4 * 24 * 60)
    run()
    put("late", minutes_ago=40, customer="cus_2")
    away = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: "meter_events" in request.path)
    run(settings(stripe_faults=away))
    found = api("GET", "/status").json()

    credits = f"{CREDITS_OF_A_TRACE}.000000"
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}
    assert found["sent_today_credits"] == found["sent_this_month_credits"] == f"{2 * CREDITS_OF_A_TRACE}.000000"
    assert (found["owed_credits"], found["held_credits"]) == (credits, f"{2 * CREDITS_OF_A_TRACE}.000000")
    assert (found["held_traces"], found["held_meter_events"], found["in_doubt_meter_events"]) == (2, 0, 0)
    assert [(each["on_its_way_credits"], each["waiting_credits"]) for each in found["unbilled"]] == [
        (credits, "0.000000"),
        ("0.000000", credits),
        ("0.000000", credits),
        ("0.000000", "0.000000"),
    ]
    assert (found["last_run"]["kind"], found["last_run"]["state"], found["stale"]) == ("sync", "done", "")
    shown = visitor().get("/").text
    assert f'<th scope="row">2026-11-22</th><td class="number" data-value="{credits}">' in shown
    assert f'<th scope="row">2026-11-23</th><td class="number" data-value="{2 * CREDITS_OF_A_TRACE}.000000">' in shown
    clock.advance(24 * 3600)
    assert api("GET", "/status").json()["sent_today_credits"] == "0.000000"


def test_old_figures_are_said(visitor, scheduled, clock, api):
    """No sync has worked for an hour; or they work, and do not come to the present."""
    scheduled()
    assert "not being billed" not in visitor().get("/").text
    clock.advance(61 * 60)
    assert "Usage is not being billed" in visitor().get("/").text
    assert api("GET", "/status").json()["ready"] is False


@pytest.fixture
def scheduled(settings, clock, ledger_url):
    """A function: let a service do what is due."""

    def work():
        made = Scheduler(ledger_url, jobs_for(settings()), clock, threading.Event())
        made.plan()
        return made.run_due()

    return work


def test_syncs_that_work_and_do_not_come_to_the_present_are_said(visitor, scheduled, clock, look, api):
    """Coverage stands still."""
    scheduled()
    clock.advance(90 * 60)
    look(f"update job set succeeded_at_us = {clock.now_us()}")

    assert "105 minutes ago" in api("GET", "/status").json()["stale"]
    assert "These figures are old" in visitor().get("/").text
