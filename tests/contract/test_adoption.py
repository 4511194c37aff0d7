"""An empty ledger in front of a project that was billed before bills nothing that is marked, and says how many it met.

Issue 3, "Adoption": marked by tallymark whose ledger was lost, or by another script, in each generation.
"""

import pytest
from observation_services import observation, post, send_cost

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT, ingested
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, format_time
from tallymark.sandbox.langfuse import SandboxLangfuse

TRACES = 12
# In dual mode a tag reaches v2/observations after eleven minutes (facts/langfuse-observed.md item 27).
PROPAGATED_SECONDS = 700
GENERATIONS = ("legacy", "dual", "events_only")
BY_SCRIPT = {
    "tag": {"tags": ["billing:processed"]},
    "tag beside others": {"tags": ["a,b", "billing:pending", "billing:processed"]},
    "metadata": {"metadata": {"customerId": "cus_1", "billing_status": "processed"}},
    "both": {"tags": ["billing:processed"], "metadata": {"customerId": "cus_1", "billing_status": "Processed"}},
}


@pytest.fixture(params=GENERATIONS)
def langfuse(request, clock):
    """A sandbox of each generation."""
    return SandboxLangfuse(clock=clock, generation=request.param)


@pytest.fixture
def lost(settings, tmp_path):
    """Settings for another ledger: the one that an earlier run wrote, and that is lost now."""
    return lambda **changes: settings(BILLING_LEDGER_URL=f"sqlite:///{tmp_path / 'lost.sqlite3'}", **changes)


@pytest.fixture
def fill(put):
    """A function that writes some traces, all of them billable; returns their ids."""

    def write(prefix="t", **changes):
        ids = [f"{prefix}{number:02d}" for number in range(TRACES)]
        for number, trace_id in enumerate(ids):
            put(trace_id, minutes_ago=30 + number, **changes)
        return ids

    return write


@pytest.fixture
def score(langfuse):
    """A function that writes a score as another script would: an id and a time of its own."""

    def write(trace_id, *, name="billing_status", value="processed", at_us=NOW_US - HOUR_US, **changes):
        body = {"id": f"script-{trace_id}", "traceId": trace_id, "name": name, "value": value, **changes}
        envelope = {"id": f"of-{trace_id}", "type": "score-create", "timestamp": format_time(at_us), "body": body}
        assert post(langfuse, "ingestion", {"batch": [envelope]}).status == 207

    return write


def billed_then_nothing(summary, *, new=0):
    """Whether a first run adopted all the marked traces, and billed only what is new."""
    return (
        summary.adopted == TRACES
        and summary.skipped["already_processed"] == TRACES
        and summary.processed == new
        and summary.fetched == TRACES + new
    )


# ---- a lost ledger


@pytest.mark.parametrize("marks", ["auto", "score"])
def test_a_lost_ledger_bills_nothing_twice(marks, fill, run, lost, settings, stripe):
    """Whatever an earlier tallymark wrote there as marks is enough; then new traces are billed."""
    fill()
    assert run(lost(BILLING_MARKS=marks)).processed == TRACES
    fill("new", customer="cus_2")

    summary = run(settings(BILLING_MARKS=marks))

    assert billed_then_nothing(summary, new=TRACES)
    assert stripe.tally() == {(customer, "credits"): TRACES * CREDITS_OF_A_TRACE for customer in ("cus_1", "cus_2")}
    assert (run().adopted, run(full=True).adopted, run(full=True).processed) == (0, 0, 0)


@pytest.mark.parametrize("later", GENERATIONS)
@pytest.mark.parametrize("marks", ["auto", "score"])
def test_a_ledger_lost_on_the_way_to_another_generation(marks, later, fill, run, lost, langfuse, stripe, clock):
    """Marked through one generation, adopted through another: version 4 keeps the tags of what was there before."""
    if (marks, later) == ("auto", "legacy"):
        marks = "score"
    fill()
    run(lost(BILLING_MARKS=marks))
    clock.advance(PROPAGATED_SECONDS)
    langfuse.set_generation(later)

    assert billed_then_nothing(run())
    assert stripe.tally() == {("cus_1", "credits"): TRACES * CREDITS_OF_A_TRACE}


def test_a_lost_ledger_with_half_of_the_marks_missing(fill, run, lost, langfuse, stripe):
    """What carries no mark is billed: no more can be known. The count says how many were adopted."""
    fill()
    run(lost())
    fill("unmarked", customer="cus_2")

    summary = run()

    assert (summary.adopted, summary.processed) == (TRACES, TRACES)
    assert stripe.tally()["cus_1", "credits"] == TRACES * CREDITS_OF_A_TRACE


def test_a_dry_run_tells_what_would_be_adopted(fill, run, lost, langfuse, look):
    """The same numbers, and nothing is written."""
    fill()
    run(lost())

    assert billed_then_nothing(run(dry_run=True))
    assert billed_then_nothing(run())


# ---- another script


@pytest.mark.parametrize("how", BY_SCRIPT)
def test_marks_that_another_script_left_are_believed(how, fill, run, stripe):
    """A tag, metadata or both, on traces that this ledger has never seen."""
    fill(**BY_SCRIPT[how])
    fill("new", customer="cus_2")

    assert billed_then_nothing(run(), new=TRACES)
    assert stripe.tally() == {("cus_2", "credits"): TRACES * CREDITS_OF_A_TRACE}
    assert (run(full=True).processed, run(full=True).adopted) == (0, 0)


def test_scores_that_another_script_left_are_believed(fill, score, run, stripe):
    """With ids of its own, dated when it ran."""
    for trace_id in fill():
        score(trace_id)
    fill("new", customer="cus_2")

    assert billed_then_nothing(run(), new=TRACES)
    assert stripe.tally() == {("cus_2", "credits"): TRACES * CREDITS_OF_A_TRACE}


@pytest.mark.parametrize("changes", [{"name": "quality"}, {"value": "pending"}, {"value": 1, "dataType": "NUMERIC"}])
def test_other_scores_mark_nothing(changes, fill, score, run, stripe):
    """Only billing_status = processed, and only on the trace."""
    for trace_id in fill():
        score(trace_id, **changes)

    summary = run()

    assert (summary.adopted, summary.processed) == (0, TRACES)
    assert stripe.tally() == {("cus_1", "credits"): TRACES * CREDITS_OF_A_TRACE}


def test_a_score_on_an_observation_is_no_mark(fill, score, run, stripe):
    """Only a score on the trace says that all of it was billed, whatever id the observation has."""
    for trace_id in fill():
        score(trace_id, observationId=trace_id)

    summary = run()

    assert (summary.adopted, summary.processed) == (0, TRACES)
    assert stripe.tally() == {("cus_1", "credits"): TRACES * CREDITS_OF_A_TRACE}


def test_a_trace_with_both_scores_is_marked(fill, score, run, stripe):
    """A score on an observation beside the trace's own takes nothing from it."""
    for trace_id in fill():
        score(trace_id, id=f"part-{trace_id}", observationId="o1")
        score(trace_id)
    for trace_id in fill("part", customer="cus_2"):
        score(trace_id, observationId="o1")

    assert billed_then_nothing(run(), new=TRACES)
    assert stripe.tally() == {("cus_2", "credits"): TRACES * CREDITS_OF_A_TRACE}


@pytest.mark.parametrize("trace_id", ["a,b", "a&b=c d", "x" * 700, "\u00e9"])
def test_a_score_on_a_trace_of_an_unusual_id_is_a_mark(trace_id, put, score, run, stripe):
    """Ids are the application's: with a comma, which a list of ids cannot hold, or longer than a URL likes."""
    put(trace_id)
    score(trace_id)

    assert (run().adopted, stripe.tally()) == (1, {})


def test_scores_of_a_server_that_cannot_tell_whose_they_are_are_believed(clock, serving, run, settings, stripe):
    """Before 3.179 there is no list to ask: nothing is billed that may have been billed before."""
    old = SandboxLangfuse(clock=clock, version="3.150.0")
    old.put_trace(PROJECT, *ingested("t1"))
    body = {"id": "s1", "traceId": "t1", "observationId": "o1", "name": "billing_status", "value": "processed"}
    assert post(old, "scores", body).status == 200

    assert (run(settings(read_from=old)).adopted, stripe.tally()) == (1, {})


def test_many_scores_are_read_to_the_end(put, score, run, stripe):
    """Scores come a hundred a page."""
    for number in range(230):
        put(f"t{number:03d}", minutes_ago=30 + number)
        score(f"t{number:03d}")

    assert run().adopted == 230
    assert stripe.tally() == {}


def test_a_score_on_a_trace_that_began_before_the_range_is_seen(langfuse, score, run, stripe):
    """Its score is dated like the trace, before the range; its last observation lies inside of the range."""
    start_us = NOW_US - 7 * DAY_US - 30 * MINUTE_US
    said = {"customerId": "cus_1"}
    late = observation("late", startTime=format_time(start_us + HOUR_US), endTime=format_time(start_us + HOUR_US))
    trace = {"id": "t1", "timestamp": format_time(start_us), "metadata": said}
    langfuse.put_trace(PROJECT, trace, [{"id": "o1", "startTime": format_time(start_us)}, late])
    score("t1", at_us=start_us)

    run()

    assert stripe.tally() == {}


# ---- an adopted trace that grows


def test_late_usage_of_an_adopted_trace_is_not_billed(fill, run, lost, langfuse, stripe):
    """What it was billed with is known to nobody here; so it stays as it is."""
    fill()
    run(lost())
    run()
    send_cost(langfuse, "t00", "late", 0.5)

    assert run(full=True).processed == 0
    assert stripe.tally() == {("cus_1", "credits"): TRACES * CREDITS_OF_A_TRACE}
