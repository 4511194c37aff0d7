"""Backfill: history into the ledger, unbilled traces tagged, and an honest word on tag filtering."""

import itertools

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT
from tallymark.core.clock import DAY_US, HOUR_US, SECOND_US
from tallymark.errors import Unreachable
from tallymark.flows import collect
from tallymark.remote.langfuse import ATTEMPTS_MAX
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.story import expect, tell

FILTERED = {"BILLING_USE_TAG_FILTERING": "true"}
DAYS = 24 * 60


def test_history_is_recorded_and_tagged_and_the_next_sync_sends_it(put, run_backfill, run, settings, langfuse, stripe):
    """Nothing is sent by the backfill itself; afterwards a filtered sync misses nothing."""
    for number in range(20):
        put(f"t{number}", tags=[], minutes_ago=(2 + number) * DAYS)
    put("tagged", minutes_ago=3 * DAYS)

    summary = run_backfill()

    assert (summary.fetched, summary.owed, summary.tagged, summary.exit_status) == (21, 21, 20, 0)
    assert summary.credits == f"{21 * CREDITS_OF_A_TRACE}.000000"
    assert stripe.counts() == {}
    assert all("billing:pending" in row["tags"] for row in langfuse.traces(PROJECT))

    run(settings(**FILTERED))
    assert stripe.tally() == {("cus_1", "credits"): 21 * CREDITS_OF_A_TRACE}
    assert run(full=True).processed == 0


def test_tagging_harms_nothing(put, run_backfill, langfuse):
    """The same care as with marks; a bookmarked trace is left alone."""
    put(
        "t1",
        tags=["team:a"],
        minutes_ago=2 * DAYS,
        sessionId="s",
        release="r",
        version="v",
        environment="staging",
        public=True,
    )
    put("bookmarked", tags=[], minutes_ago=2 * DAYS)
    langfuse.bookmark(PROJECT, "bookmarked")
    before = {row["id"]: row for row in langfuse.traces(PROJECT)}

    assert run_backfill().tagged == 1

    after = {row["id"]: row for row in langfuse.traces(PROJECT)}
    assert after["bookmarked"] == before["bookmarked"]
    assert after["t1"]["tags"] == ["billing:pending", "team:a"]
    changing = ("tags", "updatedAt")
    assert {k: v for k, v in after["t1"].items() if k not in changing} == {
        k: v for k, v in before["t1"].items() if k not in changing
    }


def test_a_story_backfilled_is_billed_like_one_synced(langfuse, run_backfill, run, balance):
    """The same outcomes, the same credits."""
    for told in tell(200, NOW_US):
        langfuse.put_trace(PROJECT, told.trace, told.observations)
    expected = expect(tell(200, NOW_US))
    future = expected.results.pop("future_timestamp")

    summary = run_backfill(from_us=NOW_US - 40 * DAY_US)
    results = {"processed": summary.owed, **summary.skipped, **summary.held}
    assert {result: traces for result, traces in results.items() if traces} == dict(expected.results)
    assert summary.fetched == 200 - future

    run(full=True)
    assert balance() == dict(expected.micros)


def test_a_second_backfill_changes_nothing(put, run_backfill, run, stripe):
    """Before and after the sync that sends."""
    put("t1", tags=[], minutes_ago=2 * DAYS)
    run_backfill()
    again = run_backfill()
    assert (again.owed, again.tagged, again.credits) == (1, 0, "0.000000")

    run(full=True)
    assert run_backfill().skipped["already_processed"] == 1
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_a_backfill_that_breaks_off_goes_on_where_it_was(put, run_backfill, run, settings, look, stripe, monkeypatch):
    """The same range again: what was recorded is not read again."""
    monkeypatch.setattr(collect, "BATCH_PAGES", 8)
    for number in range(1000):
        put(f"t{number:04d}", tags=[], at_us=NOW_US - 20 * DAY_US + number * 60 * SECOND_US)
    pages = itertools.count(1)

    def late_pages(request):
        is_page = request.path.endswith("/traces") and dict(request.query)["fields"] != "core"
        return is_page and next(pages) > 6

    to = settings(langfuse_faults=Faults(0, {Fault.RESET_BEFORE: 1}, only=late_pages, limit=ATTEMPTS_MAX))
    from_us = NOW_US - 30 * DAY_US
    with pytest.raises(Unreachable):
        run_backfill(to, from_us=from_us)
    assert look("select count(*) from trace") == [(600,)]

    summary = run_backfill(to, from_us=from_us)

    assert 400 <= summary.fetched <= 501
    assert summary.tagged == 1000
    run(to, full=True)
    assert stripe.tally() == {("cus_1", "credits"): 1000 * CREDITS_OF_A_TRACE}
    assert run_backfill(to, from_us=from_us).fetched == 1000


def test_filtering_is_safe_when_every_trace_of_the_last_day_came_tagged(put, run_backfill):
    """History is tagged now, and the application tags at creation."""
    put("old", tags=[], minutes_ago=5 * DAYS)
    put("new", minutes_ago=60)

    summary = run_backfill()

    assert summary.tag_filtering_safe
    assert summary.why_not == []


def test_filtering_is_not_safe_while_new_traces_come_untagged(put, run_backfill, clock):
    """Tagging history does not help those that come tomorrow."""
    put("new", tags=[], minutes_ago=60)
    put("another", tags=["team:a"], minutes_ago=90)

    summary = run_backfill()

    assert not summary.tag_filtering_safe
    assert len(summary.why_not) == 1
    assert "2 traces of the last 24 hours came without billing:pending" in summary.why_not[0]
    assert not run_backfill().tag_filtering_safe
    clock.advance(25 * 3600)
    assert run_backfill().tag_filtering_safe


def test_filtering_is_not_safe_if_tags_could_not_be_written(put, run_backfill, settings):
    """It says so and fails, and a second backfill tags them."""
    put("t1", tags=[], minutes_ago=2 * DAYS)
    broken = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.method == "POST")

    summary = run_backfill(settings(langfuse_faults=broken))

    assert (summary.tags_failed, summary.tag_filtering_safe, summary.exit_status) == (1, False, 1)
    assert any("could not be tagged" in why for why in summary.why_not)
    assert run_backfill().tagged == 1


def test_a_backfill_reads_35_days_unless_told_otherwise(put, run_backfill):
    """What Stripe takes; older traces are held when asked for."""
    put("in", minutes_ago=34 * DAYS)
    put("out", minutes_ago=36 * DAYS)

    assert run_backfill().fetched == 1
    assert run_backfill(from_us=NOW_US - 40 * DAY_US).held["too_old"] == 1
    assert run_backfill(from_us=NOW_US - 40 * DAY_US, to_us=NOW_US - 35 * DAY_US + HOUR_US).fetched == 1


def test_a_backfill_does_not_count_as_synced(put, run_backfill, run, stripe):
    """The sync after it reads its own look-back; what backfill owes is sent even if it is older."""
    put("old", minutes_ago=20 * DAYS)
    run_backfill()
    put("late", minutes_ago=5 * DAYS)

    assert run().processed == 1
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}
