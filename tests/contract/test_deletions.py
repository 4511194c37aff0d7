"""Billed traces that are deleted in Langfuse, in both generations: given back, held for a person, or kept billed."""

import json
import logging
from dataclasses import replace

import pytest

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT
from databases import DATABASES
from kills import killed_at
from tallymark.core.clock import HOUR_US, MINUTE_US
from tallymark.failpoints import Side, Step
from tallymark.flows import held_decisions
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import SandboxLangfuse

pytestmark = [pytest.mark.databases(*DATABASES), pytest.mark.usefixtures("proved")]


@pytest.fixture(params=["legacy", "events_only"])
def generation(request):
    """Which Langfuse it is."""
    return request.param


@pytest.fixture
def langfuse(generation, clock):
    """An empty sandbox Langfuse of either generation."""
    return SandboxLangfuse(clock=clock, generation=generation)


@pytest.fixture
def billed(put, run):
    """A function that bills some traces, the oldest first."""

    def make(number, to=None):
        for place in range(number):
            put(f"t{place}", minutes_ago=60 * (number - place) + 30)
        run(to)

    return make


def delete(langfuse, *ids):
    for trace_id in ids:
        langfuse.delete_trace(PROJECT, trace_id)


def held_ids(look):
    return sorted(trace_id for (trace_id,) in look("select trace_id from trace where reason = 'deleted'"))


def test_a_deleted_trace_is_given_back_by_a_whole_read(billed, langfuse, run, balance, look):
    """A line against its charge, in its own bucket: the customer's next usage pays it off. Once."""
    billed(5)
    delete(langfuse, "t2")

    assert run(full=True).adjusted == 1
    assert run(full=True).adjusted == 0

    assert balance() == {"cus_1": 4 * CREDITS_OF_A_TRACE * CREDIT_MICROS}
    charge, back = look("select kind, amount_micros, timestamp_us from entry where trace_id = 't2' order by entry_id")
    assert back == ("adjustment", -charge[1], charge[2])
    assert look("select billed_micros, deleted_at_us is null from trace where trace_id = 't2'") == [(0, 0)]


def test_an_incremental_read_gives_nothing_back(billed, langfuse, run, balance):
    """It reads the overlap only, and says nothing about what it did not read."""
    billed(3)
    delete(langfuse, "t1")

    assert run().adjusted == 0
    assert balance() == {"cus_1": 3 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


def test_a_named_range_gives_back_only_what_lies_in_it(billed, langfuse, run, look):
    """--from and --to."""
    billed(6)
    delete(langfuse, "t1", "t4")

    assert run(from_us=NOW_US - 4 * HOUR_US, to_us=NOW_US - HOUR_US).adjusted == 1

    assert look("select trace_id from trace where deleted_at_us is not null") == [("t4",)]


def test_a_trace_that_comes_back_is_billed_again(billed, put, langfuse, run, balance):
    """Its id may be used anew (facts/langfuse-observed.md item 18)."""
    billed(3)
    delete(langfuse, "t1")
    run(full=True)
    put("t1", minutes_ago=150)

    assert run(full=True).adjusted == 1
    assert balance() == {"cus_1": 3 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


def test_a_deleted_trace_gets_no_mark(put, langfuse, run, settings):
    """A mark would make a new trace of its id (facts/langfuse-observed.md item 8)."""
    faults = Faults.script([(lambda request: "meter_events" in request.path, Fault.RESET_BEFORE)] * 1000)
    for place in range(3):
        put(f"t{place}", minutes_ago=30 + place)
    run(settings(stripe_faults=faults))
    delete(langfuse, "t1")

    run(full=True)
    run()

    assert {trace["id"] for trace in langfuse.traces(PROJECT)} == {"t0", "t2"}
    assert langfuse.scores(PROJECT, "t1") == []


@pytest.mark.parametrize(("policy", "ids"), [("hold", ["t2"]), ("keep", [])])
def test_another_policy_gives_nothing_back(billed, langfuse, run, settings, balance, look, policy, ids):
    """Held for a person, or left billed."""
    billed(5)
    delete(langfuse, "t2")

    assert run(settings(BILLING_DELETED_TRACES=policy), full=True).adjusted == 0

    assert held_ids(look) == ids
    assert balance() == {"cus_1": 5 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


@pytest.mark.parametrize(("choice", "traces"), [("waive", 4), ("as-is", 5)])
def test_a_person_decides_about_a_held_deletion(billed, langfuse, run, settings, clock, balance, look, choice, traces):
    """Given back, or left billed; either way it waits no more, also after another full read."""
    billed(5)
    delete(langfuse, "t2")
    run(settings(BILLING_DELETED_TRACES="hold"), full=True)

    held_decisions.release(settings(), ["t2"], choice, why="asked the customer", by="anna", clock=clock)
    run(settings(BILLING_DELETED_TRACES="hold"), full=True)

    assert held_ids(look) == []
    assert balance() == {"cus_1": traces * CREDITS_OF_A_TRACE * CREDIT_MICROS}
    assert look("select who, subject from decision") == [("anna", f"{PROJECT}/t2")]


def test_what_is_gone_by_age_is_not_given_back(billed, langfuse, run, balance, look, caplog):
    """Retention deletes by age: the oldest are gone, and a person is asked, once a run."""
    billed(6)
    delete(langfuse, "t0", "t1")

    with caplog.at_level(logging.WARNING):
        assert run(full=True).adjusted == 0

    assert balance() == {"cus_1": 6 * CREDITS_OF_A_TRACE * CREDIT_MICROS}
    assert held_ids(look) == ["t0", "t1"]
    (said,) = [record.getMessage() for record in caplog.records if "gone in Langfuse" in record.getMessage()]
    assert "2 of 6" in said
    assert "held waive --reason deleted --all" in said


def test_a_server_that_lists_nothing_gives_nothing_back(billed, put, langfuse, run, balance, look):
    """An outage looks so; when the traces are there again, nothing waits any more."""
    billed(4)
    delete(langfuse, "t0", "t1", "t2", "t3")
    run(full=True)
    assert len(held_ids(look)) == 4

    for place in range(4):
        put(f"t{place}", minutes_ago=60 * (4 - place) + 30)
    run(full=True)

    assert held_ids(look) == []
    assert balance() == {"cus_1": 4 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


class Hiding:
    """A Langfuse that leaves one trace out of its lists, and shows it when it is asked for by its id."""

    def __init__(self, langfuse, trace_id):
        self.langfuse, self.trace_id = langfuse, trace_id

    def handle(self, request):
        """Answer as the server does, without the rows of the trace."""
        response = self.langfuse.handle(request)
        lists = request.method == "GET" and request.path.endswith(("/traces", "/observations"))
        by_id = self.trace_id in dict(request.query).get("filter", "")
        if not lists or by_id or response.status != 200:
            return response
        page = json.loads(response.body)
        page["data"] = [row for row in page["data"] if self.trace_id not in (row["id"], row.get("traceId"))]
        return replace(response, body=json.dumps(page).encode())


def test_a_trace_that_a_list_left_out_is_asked_for_by_its_id(billed, langfuse, run, settings, balance, look):
    """A page that drifted, or a server that lists less than it has: what is there by its id is not gone."""
    billed(5)

    run(settings(read_from=Hiding(langfuse, "t2")), full=True)

    assert held_ids(look) == []
    assert balance() == {"cus_1": 5 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


def test_many_missing_at_once_are_held(put, langfuse, run, balance, look):
    """More than a tenth and more than twenty: somebody cleared a project, or the server is not well."""
    for place in range(60):
        put(f"t{place:02}", at_us=NOW_US - 3 * HOUR_US + place * MINUTE_US)
    run()
    delete(langfuse, *(f"t{place:02}" for place in range(10, 31)))

    assert run(full=True).adjusted == 0

    assert len(held_ids(look)) == 21
    assert balance() == {"cus_1": 60 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


def test_twenty_missing_are_given_back(put, langfuse, run, balance):
    """A few more than usual, but each was asked for by its id."""
    for place in range(60):
        put(f"t{place:02}", at_us=NOW_US - 3 * HOUR_US + place * MINUTE_US)
    run()
    delete(langfuse, *(f"t{place:02}" for place in range(10, 30)))

    assert run(full=True).adjusted == 20
    assert balance() == {"cus_1": 40 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


@pytest.mark.parametrize("side", Side)
def test_a_run_that_was_cut_off_gives_back_once(billed, langfuse, run, balance, side):
    """The next whole read finds it again, and knows what was done."""
    billed(5)
    delete(langfuse, "t2")

    assert killed_at(Step.PUT_DELETED, side, lambda: run(full=True))
    run(full=True)
    run(full=True)

    assert balance() == {"cus_1": 4 * CREDITS_OF_A_TRACE * CREDIT_MICROS}


def test_a_dry_run_says_what_would_be_given_back(billed, langfuse, run, look):
    """And gives nothing."""
    billed(3)
    delete(langfuse, "t1")

    summary = run(full=True, dry_run=True)

    assert (summary.adjusted, summary.credits) == (1, "-500.000000")
    assert look("select count(*) from trace where deleted_at_us is not null") == [(0,)]


def test_a_deleted_trace_is_cancelled_at_stripe_where_that_is_the_policy(put, langfuse, run, settings, stripe):
    """Within the day Stripe takes the meter event back, and nothing takes its place."""
    to = settings(BILLING_METER_BUCKET="trace", BILLING_CORRECTIONS="cancel")
    for place in range(3):
        put(f"t{place}", minutes_ago=30 + place)
    run(to)
    delete(langfuse, "t1")

    run(to, full=True)

    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}
