"""Runs that somebody asks for: stored, taken by one scheduler, told while they run, listed with all others."""

import subprocess
import sys
import threading
from functools import partial

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US
from databases import DATABASES
from tallymark.flows import service
from tallymark.flows.service import Scheduler, jobs_for, run_requested
from tallymark.ledger import owner
from tallymark.ledger.jobs import Done
from tallymark.ledger.run_requests import WAITING_MAX
from web_callers import READER, Browser


@pytest.fixture
def scheduler(settings, clock, ledger_url):
    """A function: another scheduler of a service, which has no jobs unless some are given."""

    def make(jobs=(), stop=None, requested=None):
        made = Scheduler(
            ledger_url,
            jobs,
            clock,
            stop or threading.Event(),
            requested=requested or partial(run_requested, settings()),
        )
        made.plan()
        return made

    return make


def asked(api, **wish):
    """Ask for a run; its id."""
    answer = api("POST", "/runs", json=wish)
    assert answer.status_code == 202, answer.text
    return answer.json()["run_id"]


@pytest.mark.databases(*DATABASES)
def test_a_run_that_is_asked_for_is_run_once_by_one_of_two(api, scheduler, put, ledger, stripe, look):
    """The second looks in the middle of the run of the first, and after it; who asked is kept with the run."""
    put("t1")
    run_id = asked(api, kind="full")
    assert api("GET", f"/runs/{run_id}").json()["state"] == "waiting"
    other = scheduler()

    def meanwhile(request, *given):
        assert other.run_due() == []
        assert api("GET", f"/runs/{run_id}").json()["state"] == "running"
        return run_requested_of(request, *given)

    first = scheduler(requested=meanwhile)
    run_requested_of = other._requested
    assert first.run_due() == ["full for the API's operator"]
    assert other.run_due() == first.run_due() == []

    found = api("GET", f"/runs/{run_id}").json()
    assert (found["state"], found["kind"], found["asked_by"]) == ("done", "full", "the API's operator")
    assert found["summary"]["processed"] == found["counts"]["accepted"] == 1
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}
    assert look("select verb, asked_by from run") == [("sync", "the API's operator")]
    assert [run["run_id"] for run in api("GET", "/runs").json()["items"]] == [run_id]


@pytest.mark.databases(*DATABASES)
def test_a_run_of_a_lost_process_is_taken_over(api, scheduler, ledger, monkeypatch, look):
    """The machine knows that its process is gone; what that had told of its progress is gone too."""
    run_id = asked(api, kind="sync")
    script = "from tallymark.ledger import owner; print(owner.this_process())"
    dead = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    lost = scheduler()
    with monkeypatch.context() as patched:
        patched.setattr("tallymark.ledger.run_requests.this_process", lambda: dead)
        (take,) = lost._due()
        work = take()
        work.leases.renew(ledger, work.lease, NOW_US, service.Told("read", NOW_US, 5, 10))
    assert owner.is_dead(dead)
    assert api("GET", f"/runs/{run_id}").json()["state"] == "waiting"

    assert scheduler().run_due() == ["sync for the API's operator"]
    assert api("GET", f"/runs/{run_id}").json()["state"] == "done"
    assert look("select attempt from run_request") == [(2,)]
    assert look("select count(*) from run_progress") == [(0,)]
    assert work.leases.finish(ledger, work.lease, Done("late"), NOW_US) is False
    assert api("GET", f"/runs/{run_id}").json()["state"] == "done"


def test_a_run_that_was_stopped_waits_for_the_next_service(api, scheduler, ledger):
    """SIGTERM in the middle of it."""
    run_id, stop = asked(api, kind="sync"), threading.Event()

    def stopped(_request, _clock, progress, _asked):
        stop.set()
        progress("read", 1, 2)

    scheduler(stop=stop, requested=stopped).run_due()
    assert api("GET", f"/runs/{run_id}").json()["state"] == "waiting"

    scheduler().run_due()
    assert api("GET", f"/runs/{run_id}").json()["state"] == "done"


@pytest.mark.databases(*DATABASES)
def test_progress_is_told_while_it_runs(api, scheduler, ledger, clock, monkeypatch):
    """Stage, done, total, rate and what is left; gone when the run has ended."""
    run_id, seen = asked(api, kind="sync"), []
    monkeypatch.setattr(service, "TELL_SECONDS", 0.01)

    def slowly(_request, _clock, progress, _asked):
        progress("read", 0, 400)
        clock.advance(10)
        progress("read", 100, 400)
        wait = threading.Event()
        for _ in range(500):
            told = api("GET", f"/runs/{run_id}").json()["progress"]
            if told is not None and told["done"] == 100:
                seen.append(told)
                break
            wait.wait(0.01)
        return Done()

    scheduler(requested=slowly).run_due()

    (told,) = seen
    assert {name: told[name] for name in ("stage", "done", "total", "per_second", "seconds_left")} == {
        "stage": "read",
        "done": 100,
        "total": 400,
        "per_second": 10.0,
        "seconds_left": 30,
    }
    assert api("GET", f"/runs/{run_id}").json()["progress"] is None


def test_each_kind_runs_what_it_says(api, scheduler, put, ledger, look, clock):
    """A dry run tells what would happen and leaves nothing; a range and a trace read no more than that."""
    put("old", minutes_ago=3 * 24 * 60)
    put("new", customer="cus_2", minutes_ago=60)
    wishes = {
        "dry": {"kind": "full", "dry_run": True},
        "trace": {"kind": "trace", "trace_id": "new"},
        "range": {"kind": "range", "from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z"},
        "reconcile": {"kind": "reconcile"},
        "unknown": {"kind": "trace", "trace_id": "none"},
    }
    ids = {}
    for name, wish in wishes.items():
        clock.advance(1)
        ids[name] = asked(api, **wish)
    one = scheduler()
    assert len(one.run_due()) == 5
    found = {name: api("GET", f"/runs/{run_id}").json() for name, run_id in ids.items()}

    assert [found[name]["summary"]["processed"] for name in ("dry", "trace", "range")] == [2, 1, 1]
    assert found["dry"]["dry_run"] and found["dry"]["summary"]["dry_run"]
    assert look("select count(*) from run") == [(4,)]
    assert found["reconcile"]["reconciliation"]["explained"] is True
    assert (found["unknown"]["state"], found["unknown"]["summary"]) == ("failed", None)
    assert "there is no trace 'none'" in found["unknown"]["problem"]
    assert look("select problem <> '', finished_at_us is null from run order by problem desc")[0] == (1, 0)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"kind": "trace"}, "needs trace_id"),
        ({"kind": "sync", "trace_id": "t"}, "needs trace_id"),
        ({"kind": "trace", "trace_id": "a\0b"}, "control character"),
        ({"kind": "range"}, "needs from"),
        ({"kind": "full", "from": "2026-11-20T00:00:00Z"}, "takes no from"),
        ({"kind": "range", "from": "yesterday"}, "no time with a zone"),
        ({"kind": "range", "from": "2026-11-20T00:00:00Z", "to": "2026-11-19T00:00:00Z"}, "ends"),
        ({"kind": "reconcile", "dry_run": True}, "without dry_run"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(api, ledger, look, wish, said):
    """Nothing is stored."""
    answer = api("POST", "/runs", json=wish)

    assert (answer.status_code, said in answer.json()["detail"]) == (422, True)
    assert look("select count(*) from run_request") == [(0,)]


def test_only_an_operator_asks_for_runs(api, connect, ledger, look):
    """A reader is refused, on both doors, and sees no form."""
    reader = Browser(connect())
    reader.sign_in(READER)

    assert api("POST", "/runs", token=READER, json={"kind": "sync"}).status_code == 403
    assert reader.send("/runs", kind="sync").status_code == 403
    assert reader.get("/runs").status_code == 200
    assert '<form method="post" action="/runs"' not in reader.get("/runs").text
    assert look("select count(*) from run_request") == [(0,)]


def test_too_many_that_wait_are_refused(api, ledger):
    """Nobody runs them."""
    for _ in range(WAITING_MAX):
        asked(api, kind="sync")

    assert api("POST", "/runs", json={"kind": "sync"}).status_code == 422


def test_without_keys_nothing_is_asked_for(connect, ledger):
    """The setting is named."""
    client = connect(STRIPE_SECRET_KEY="")
    headers = {"Authorization": "Bearer operator-token-of-a-test"}
    answer = client.post("/api/v1/runs", json={"kind": "sync"}, headers=headers)

    assert (answer.status_code, "BILLING_STRIPE_SECRET_KEY" in answer.json()["detail"]) == (422, True)


@pytest.mark.databases(*DATABASES)
def test_runs_are_listed_in_pages_whoever_began_them(api, scheduler, run, clock, settings, ledger):
    """By hand, by a job, asked for: the newest first, each once; a cursor of another list is none."""
    run()
    clock.advance(60)
    asked(api, kind="sync")
    clock.advance(60)
    scheduler(jobs_for(settings())).run_due()
    pages, cursor = [], ""
    while cursor is not None:
        found = api("GET", f"/runs?limit=1{cursor and '&cursor=' + cursor}").json()
        pages += [(one["kind"], one["asked_by"]) for one in found["items"]]
        cursor = found["next"]

    assert pages == [("sync", "job: sync"), ("sync", "the API's operator"), ("sync", "")]
    for wrong in ("x", "WzEsMl0", "WzksIlx1MDAwMCJd", "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2MDAwLCIiXQ"):
        assert api("GET", f"/runs?cursor={wrong}").status_code == 422
    for wrong in ("none", "%00", "a%20b", "x" * 300):
        assert api("GET", f"/runs/{wrong}").status_code == 404
    (job,) = [one for one in api("GET", "/jobs").json()["items"] if one["name"] == "sync"]
    assert (job["schedule"], job["running"], job["runs"], job["problem"]) == ("every 5 minutes", False, 1, "")
    assert api("GET", f"/runs/{job['run_id']}").json()["asked_by"] == "job: sync"


def test_the_page_asks_and_shows(browser, scheduler, put, ledger):
    """The form leads to its run, which follows itself until it has ended; the list and the CSV have it too."""
    put("t1", customer=None)
    sent = browser.send("/runs", kind="range", from_day="2026-11-20", to_day="", trace_id="left over")
    assert sent.status_code == 303
    address = sent.headers["location"]
    assert "data-live" in browser.get(address).text

    scheduler().run_due()
    shown = browser.get(address).text
    assert "data-live" not in shown
    assert "1 no customer" in shown
    assert "2026-11-20 00:00:00" in shown
    assert address in browser.get("/runs").text
    assert browser.get("/runs.csv").text.splitlines()[1].startswith(f"{address.rpartition('/')[2]},range,done,no,Ada,")
    refused = browser.send("/runs", kind="trace", trace_id="")
    assert (refused.status_code, "needs trace_id" in refused.text) == (422, True)
    assert browser.send("/runs", kind="nonsense").status_code == 422
