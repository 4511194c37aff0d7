"""The whole path over loopback HTTP: what a sync bills and counts, judged by Stripe's own tally."""

import itertools
import logging

import pytest

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT, ingested
from databases import DATABASES
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_time
from tallymark.errors import NotFound, Unreachable
from tallymark.flows import collect
from tallymark.remote.langfuse import ATTEMPTS_MAX
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.story import expect, tell

pytestmark = pytest.mark.databases(*DATABASES)

STORY_TRACES = 300
STORY_FROM_US = NOW_US - 40 * DAY_US
READS, MARKS = "GET /api/public/traces", "POST /api/public/ingestion"


def fill(langfuse, traces):
    for told in tell(traces, NOW_US):
        langfuse.put_trace(PROJECT, told.trace, told.observations)
        if told.bookmarked:
            langfuse.bookmark(PROJECT, told.trace["id"])
    return expect(tell(traces, NOW_US))


@pytest.fixture
def story(langfuse):
    """The sandbox filled with a story; what it should come to."""
    return fill(langfuse, STORY_TRACES)


@pytest.fixture
def late_usage(langfuse):
    """A function that adds an observation to a trace that is there already."""

    def add(trace_id, *, at_us=NOW_US - HOUR_US, cost=0.02, number=2):
        moment = format_time(at_us)
        observation = {"id": f"{trace_id}-{number}", "startTime": moment, "endTime": moment}
        langfuse.put_trace(PROJECT, {"id": trace_id}, [{**observation, "costDetails": {"total": cost}}])

    return add


def results_of(summary):
    counted = {"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held}
    return {result: traces for result, traces in counted.items() if traces}


def adds_up(summary):
    return summary.fetched == sum(results_of(summary).values())


def is_page(request):
    """Whether this asks for a page of traces, and not for a lookup."""
    return request.path.endswith("/traces") and dict(request.query)["fields"] != "core"


# ---- everything at once


def test_the_story_comes_to_what_it_should(langfuse, run, balance, stripe):
    """Every kind of trace ends where the story says, and Stripe's tally and the carry are exact to the micro-credit."""
    story = fill(langfuse, 1000)

    summary = run(from_us=STORY_FROM_US)

    assert results_of(summary) == dict(story.results)
    assert summary.fetched == 1000
    assert balance() == dict(story.micros)
    assert max(stripe.max_in_flight().values()) == 1


def test_what_is_counted_is_what_was_seen(story, run, langfuse, stripe):
    """The summary's requests, meter events and marks are those that the services received."""
    summary = run(from_us=STORY_FROM_US)

    assert summary.requests.langfuse == sum(langfuse.counts().values())
    assert summary.requests.stripe == sum(stripe.counts().values())
    assert (
        summary.meter_events.accepted
        == len(stripe.meter_events())
        == len({e.identifier for e in stripe.meter_events()})
    )
    kinds = story.kinds
    assert summary.untagged == kinds["untagged"] + kinds["processed by metadata"]
    assert summary.healed == kinds["untagged"] + kinds["processed by metadata"] + kinds["processed by tag"]
    assert (
        summary.marks.written == story.results["processed"] + kinds["processed by metadata"] + kinds["processed by tag"]
    )


def test_a_second_sync_bills_nothing_and_asks_hardly_anything(story, run, langfuse, stripe, balance):
    """Only the overlap's pages and at most three requests more; nothing of Stripe."""
    run(from_us=STORY_FROM_US)
    langfuse.clear_requests()
    stripe.clear_requests()

    again = run()

    assert results_of(again).get("processed", 0) == 0
    assert adds_up(again)
    assert again.fetched < 100
    assert sum(langfuse.counts().values()) <= 1 + 3
    assert langfuse.counts().get(MARKS, 0) == 0
    assert stripe.counts() == {}
    assert balance() == dict(story.micros)


def test_a_full_second_sync_bills_nothing_either(story, run, stripe, balance):
    """The whole look-back read again: everything is processed already."""
    run(from_us=STORY_FROM_US)
    sent = len(stripe.meter_events())

    again = run(full=True)

    assert again.processed == 0
    assert adds_up(again)
    assert len(stripe.meter_events()) == sent
    assert balance() == dict(story.micros)


def test_many_small_runs_come_to_the_same_as_one(story, run, balance):
    """Day by day, overlapping, in any order."""
    for days_ago in (2, 38, 1, 3, 0, 1):
        start_us = NOW_US - days_ago * DAY_US
        run(from_us=start_us - DAY_US, to_us=start_us + 12 * HOUR_US)
    run(from_us=STORY_FROM_US)

    assert balance() == dict(story.micros)


def test_untagged_traces_are_logged_once_with_their_share(put, run, caplog):
    """Once per run with count, total and percentage (G7)."""
    for number in range(4):
        put(f"t{number}", tags=[] if number < 3 else ["billing:pending"])

    with caplog.at_level(logging.WARNING, "tallymark"):
        run()

    assert [record.getMessage() for record in caplog.records if "tag" in record.getMessage()] == [
        "3 of 4 traces (75.0 %) carried no billing tag; they were billed or marked all the same. "
        "Tag traces at creation before you switch tag filtering on."
    ]


# ---- late usage


def test_late_usage_becomes_an_adjustment(put, run, late_usage, stripe):
    """An observation that came after billing: the difference, once."""
    put("t1")
    run()
    late_usage("t1")

    summary = run()

    assert (summary.processed, summary.adjusted, summary.credits) == (1, 1, "500.000000")
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}
    assert run().adjusted == 0
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}


def test_late_usage_outside_the_overlap_is_found_by_a_full_sync(put, run, late_usage, stripe):
    """An incremental run reads the overlap again; --full the whole look-back."""
    put("t1", minutes_ago=10 * 60)
    put("t2")
    run()
    late_usage("t1", at_us=NOW_US - 10 * HOUR_US)

    assert run().adjusted == 0
    assert run(full=True).adjusted == 1
    assert stripe.tally() == {("cus_1", "credits"): 3 * CREDITS_OF_A_TRACE}


def test_usage_that_shrinks_is_given_back_in_the_carry(put, run, langfuse, stripe, balance):
    """Stripe takes no negative usage: the difference waits in the carry, to the micro-credit."""
    put("t1", cost="0.01")
    put("t2", customer="cus_2")
    run()
    langfuse.put_trace(
        PROJECT,
        {"id": "t1"},
        [{"id": "t1-generation", "startTime": format_time(NOW_US - HOUR_US), "costDetails": {"total": 0.002}}],
    )

    summary = run()

    assert summary.adjusted == 1
    assert stripe.tally()["cus_1", "credits"] == CREDITS_OF_A_TRACE
    assert balance()["cus_1"] == (CREDITS_OF_A_TRACE - 200) * CREDIT_MICROS


def test_a_cost_cut_off_by_the_window_never_lowers_the_bill(put, run, late_usage, stripe, balance):
    """Observations from long before the trace are missing in later readings (facts/langfuse-observed.md item 5)."""
    put("t1", minutes_ago=30)
    late_usage("t1", at_us=NOW_US - 5 * HOUR_US)
    run()
    before = balance()

    run()
    run(from_us=NOW_US - 40 * MINUTE_US)

    assert balance() == before


def test_late_usage_of_a_trace_too_old_for_stripe_is_held(put, run, late_usage, clock, stripe):
    """Never sent only to be refused for ever, and never re-dated (G3)."""
    put("t1", minutes_ago=34 * 24 * 60)
    run(from_us=NOW_US - 36 * DAY_US)
    late_usage("t1", at_us=NOW_US - 34 * DAY_US)
    clock.advance(2 * 86_400)

    summary = run(from_us=NOW_US - 36 * DAY_US)

    assert summary.failed == 0
    assert summary.held["too_old"] == 1
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


# ---- what is read when


def test_a_young_trace_waits_for_the_settle_delay(put, run, clock, stripe):
    """Costs arrive late: a trace is read when it has been quiet for fifteen minutes, and not counted before."""
    put("t1", minutes_ago=14)

    assert run().fetched == 0
    clock.advance(2 * 60)
    assert run().processed == 1
    assert len(stripe.meter_events()) == 1


def test_the_settle_delay_can_be_set(put, run, settings):
    """BILLING_SETTLE_SECONDS."""
    put("t1", minutes_ago=1)

    assert run(settings(BILLING_SETTLE_SECONDS="0")).processed == 1


def test_a_trace_from_the_future_is_billed_when_its_time_has_come(put, run, clock, stripe):
    """Skipped, seen again by every run, and billed once."""
    put("t1", minutes_ago=-120)

    assert results_of(run()) == {"future_timestamp": 1}
    clock.advance(60 * 60)
    assert results_of(run()) == {"future_timestamp": 1}
    clock.advance(76 * 60)
    assert results_of(run()) == {"processed": 1}
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_a_trace_from_the_future_without_a_cost_is_not_free_when_its_time_has_come(put, run, clock, stripe):
    """It was skipped before anybody asked whether its tokens have a cost."""
    put("t1", minutes_ago=-60, cost=None)
    assert results_of(run()) == {"future_timestamp": 1}
    clock.advance(3 * 3600)

    assert results_of(run()) == {"unpriced": 1}
    assert stripe.tally() == {}


def test_a_trace_that_arrives_late_inside_the_overlap_is_billed(put, run, clock):
    """Ingestion is asynchronous: two hours are read again by every run."""
    put("t1", minutes_ago=20)
    run()
    clock.advance(60)
    put("late", minutes_ago=120)

    assert run().processed == 1


def test_a_trace_that_arrives_later_still_is_found_by_a_full_sync(put, run):
    """The nightly sweep."""
    put("t1", minutes_ago=20)
    run()
    put("late", minutes_ago=3 * 24 * 60)

    assert run().processed == 0
    assert run(full=True).processed == 1


def test_a_run_after_a_long_pause_reads_from_where_the_last_one_stood(put, run, clock):
    """Even if that is longer ago than the look-back: nothing in between is lost."""
    put("t1", minutes_ago=60)
    run()
    put("t2", at_us=NOW_US + DAY_US)
    clock.advance(10 * 86_400)
    put("t3", at_us=NOW_US + 9 * DAY_US)

    assert run().processed == 2


def test_a_named_range_leaves_no_gap_behind(put, run):
    """--from later than what was covered is read, but does not count as covered up to there."""
    put("t1", minutes_ago=24 * 60)
    run(to_us=NOW_US - 12 * HOUR_US)
    put("t2", minutes_ago=6 * 60)
    run(from_us=NOW_US - HOUR_US)

    assert run().processed == 1


def test_one_trace_can_be_synced_by_name(put, run, langfuse, stripe):
    """--trace ID: only that one, whatever its age in the look-back."""
    put("t1", minutes_ago=20 * 24 * 60)
    put("t2")

    summary = run(trace_id="t1")

    assert (summary.fetched, summary.processed) == (1, 1)
    assert len(stripe.meter_events()) == 1
    assert langfuse.counts()[READS] <= 5


def test_a_trace_that_is_not_there_is_an_error_of_its_own(run):
    """Exit 2, naming the id."""
    with pytest.raises(NotFound, match="'nobody'"):
        run(trace_id="nobody")


def test_a_run_that_breaks_off_is_gone_on_with(put, run, settings, look, stripe, monkeypatch):
    """The connection breaks for good in the middle of reading: what was recorded stays, the next run does the rest."""
    monkeypatch.setattr(collect, "BATCH_PAGES", 8)
    for number in range(1000):
        put(f"t{number:04d}", at_us=NOW_US - 5 * HOUR_US + number * 15 * SECOND_US)
    pages = itertools.count(1)
    faults = Faults(
        0, {Fault.RESET_BEFORE: 1}, only=lambda request: is_page(request) and next(pages) > 6, limit=ATTEMPTS_MAX
    )
    to = settings(langfuse_faults=faults)

    with pytest.raises(Unreachable):
        run(to)
    assert look("select count(*) from trace") == [(600,)]
    assert stripe.meter_events() == []

    summary = run(to)
    assert 400 < summary.fetched < 1000
    assert stripe.tally() == {("cus_1", "credits"): 1000 * CREDITS_OF_A_TRACE}


def test_every_run_moves_on(put, run, clock):
    """A run reads from where the one before it stood, less the overlap, not from where the first one stood."""
    for hour in range(10):
        put(f"t{hour}", at_us=clock.now_us() - HOUR_US)
        run()
        clock.advance(3600)

    summary = run()

    assert summary.from_ == format_time(clock.now_us() - 3 * HOUR_US - 15 * MINUTE_US)
    assert summary.fetched == 2


# ---- held traces


def test_a_held_trace_is_billed_once_a_customer_is_mapped(put, run, settings, stripe):
    """Also when it lies outside of what a run reads: held traces are read again when the settings change."""
    put("t1", customer=None, minutes_ago=3 * 24 * 60)
    put("t2")
    assert run().held["no_customer"] == 1
    assert results_of(run()) == {"already_processed": 1}

    summary = run(settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9"))

    assert summary.processed == 1
    assert stripe.tally() == {("cus_1", "credits"): 500, ("cus_9", "credits"): 500}


def test_an_unpriced_trace_is_billed_once_it_has_a_cost(put, run, late_usage, stripe):
    """Tokens without a cost are held, never free."""
    put("t1", cost=None, seconds=0)
    assert results_of(run()) == {"unpriced": 1}
    late_usage("t1", number="generation", cost=0.04)

    assert results_of(run()) == {"processed": 1}
    assert stripe.tally() == {("cus_1", "credits"): 1000}


def computed(langfuse, trace_id):
    """A trace of twelve seconds that used no tokens."""
    trace, (generation,) = ingested(trace_id)
    span = {name: generation[name] for name in ("id", "startTime", "endTime")}
    langfuse.put_trace(PROJECT, trace, [{**span, "type": "SPAN"}])


def tokens(langfuse, trace_id, at_us=NOW_US - HOUR_US):
    """Let a generation of a model without a price come to a trace that is there; it takes no time of its own."""
    moment = format_time(at_us)
    generation = {"id": f"{trace_id}-tokens", "type": "GENERATION", "startTime": moment, "endTime": moment}
    langfuse.put_trace(PROJECT, {"id": trace_id}, [{**generation, "usageDetails": {"input": 500}}])


def test_tokens_that_come_while_their_page_is_read_are_not_taken_for_free(langfuse, run, settings, stripe):
    """Whether a trace without a cost has tokens is asked after its row was read."""
    computed(langfuse, "t1")
    seen = []

    def after_the_page(request):
        if is_page(request):
            seen.append(request)
        elif seen and request.path.endswith("/traces"):
            tokens(langfuse, "t1")
        return False

    summary = run(settings(langfuse_faults=Faults(0, {Fault.RESET_BEFORE: 1}, only=after_the_page)))

    assert results_of(summary) == {"unpriced": 1}
    assert stripe.meter_events() == []


def test_tokens_without_a_price_that_come_later_are_told_by_every_run(langfuse, run, balance):
    """What was billed stays; the rest is billed once it has a cost."""
    computed(langfuse, "t1")
    assert results_of(run()) == {"processed": 1}
    tokens(langfuse, "t1")

    assert [results_of(run()) for _ in range(2)] == [{"unpriced": 1}, {"unpriced": 1}]
    assert balance() == {"cus_1": 250 * CREDIT_MICROS}


def test_a_trace_marked_by_score_elsewhere_is_not_billed(put, langfuse, run, stripe, settings, tmp_path):
    """Another ledger billed it and marked it by score: the score alone says so."""
    put("t1")
    run(settings(BILLING_MARKS="score"))

    other = settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'other.sqlite3'}")

    assert results_of(run(other)) == {"already_processed": 1}
    assert len(stripe.meter_events()) == 1
