"""Tag filtering: asks the server for less, and bills the same."""

import json
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
from stub_services import Meddled

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT
from tallymark.core.clock import DAY_US
from tallymark.sandbox.story import expect, tell

FILTERED = {"BILLING_USE_TAG_FILTERING": "true"}


def fill(langfuse, without=()):
    """A story without some kinds of traces; what it should come to."""
    story = [told for told in tell(300, NOW_US) if told.kind not in without]
    for told in story:
        langfuse.put_trace(PROJECT, told.trace, told.observations)
    return expect(iter(story))


@pytest.mark.parametrize("filtered", [True, False])
def test_on_and_off_bill_the_same(langfuse, run, settings, balance, filtered):
    """Where every trace is tagged at creation: the same customers, the same credits, to the micro-credit."""
    expected = fill(langfuse, without=("untagged", "processed by metadata"))

    run(settings(**(FILTERED if filtered else {})), from_us=NOW_US - 40 * DAY_US)

    assert balance() == dict(expected.micros)


def test_the_server_is_asked_for_pending_and_not_processed(put, run, settings, langfuse):
    """Two conditions in one filter."""
    put("t1")

    run(settings(**FILTERED))

    asked = [dict(parse_qsl(query)) for _, path, query in langfuse.requests() if path.endswith("/traces")]
    filters = [json.loads(one["filter"]) for one in asked if one["fields"] == "core,io,metrics"]
    assert filters
    assert all([one["operator"] for one in each] == ["any of", "none of"] for each in filters)


def test_untagged_traces_are_left_for_a_run_without_filtering(put, run, settings, stripe):
    """Nothing is lost for good: what a filtered run does not see, an unfiltered one bills."""
    put("tagged")
    put("untagged", tags=[])

    assert run(settings(**FILTERED)).processed == 1
    summary = run()

    assert (summary.processed, summary.untagged) == (1, 1)
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}


class IgnoresFilters:
    """A server that does not know the filter on tags."""

    def __init__(self, service):
        self.service = service

    def handle(self, request):
        query = tuple(pair for pair in request.query if pair[0] != "filter" or "arrayOptions" not in pair[1])
        return self.service.handle(replace(request, query=query))


def test_the_checks_in_memory_still_run(put, run, settings, langfuse):
    """A server that ignores the filter changes nothing: pending traces are billed, others are not."""
    put("t1")
    put("untagged", tags=[])
    put("processed", tags=["billing:pending", "billing:processed"])

    summary = run(settings(read_from=IgnoresFilters(langfuse), **FILTERED))

    assert (summary.processed, summary.skipped["filtered"], summary.skipped["already_processed"]) == (1, 1, 1)


@pytest.mark.parametrize("generation", ["legacy", "events_only"])
def test_a_run_says_what_it_read_and_left_out(generation, put, run, settings, langfuse, stripe, caplog):
    """Observations cannot be asked by tag: what is skipped as filtered was read, and the run says how much it was."""
    langfuse.set_generation(generation)
    put("tagged")
    put("untagged", tags=[])
    put("another", tags=["chat"])

    summary = run(settings(**FILTERED))

    left_out = {"legacy": 0, "events_only": 2}[generation]
    assert (summary.processed, summary.skipped["filtered"]) == (1, left_out)
    said = [record.getMessage() for record in caplog.records if "filtering" in record.getMessage()]
    assert len(said) == bool(left_out)
    assert all("2 of 3 traces carried no tag billing:pending and were not billed" in one for one in said)
    caplog.clear()
    assert (run().processed, stripe.tally()) == (2, {("cus_1", "credits"): 3 * CREDITS_OF_A_TRACE})
    assert "not billed" not in caplog.text


def test_one_trace_by_name_is_read_whatever_its_tags(put, run, settings):
    """--trace is a person's word."""
    put("t1", tags=[])

    assert run(settings(**FILTERED), trace_id="t1").processed == 1


def test_no_row_is_skipped_while_the_filtered_set_shrinks(put, run, settings, langfuse, stripe):
    """Marks of another process become visible while pages are read: the rest moves, and is read all the same."""
    ids = [f"t{number:04d}" for number in range(450)]
    for number, trace_id in enumerate(ids):
        put(trace_id, at_us=NOW_US - DAY_US + number * 1_000_000)
    done = set()

    def others_marks():
        for trace_id in ids[100 * server.pages - 100 : 100 * server.pages : 2]:
            done.add(trace_id)
            mark = {"id": trace_id, "tags": ["billing:processed"], "metadata": {"billing_status": "processed"}}
            langfuse.put_trace(PROJECT, mark)

    server = Meddled(langfuse, dict.fromkeys(range(1, 12), others_marks))

    summary = run(settings(read_from=server, **FILTERED))

    assert summary.processed == 450
    assert len(done) > 150
    assert stripe.tally() == {("cus_1", "credits"): 450 * CREDITS_OF_A_TRACE}


def test_runs_one_after_another_page_through_what_their_marks_shrink(put, run, settings, clock, stripe):
    """Each run's marks become visible during the next one."""
    for number in range(250):
        put(f"t{number}", minutes_ago=20 + number % 60)
    to = settings(**FILTERED)

    assert run(to).processed == 250
    for number in range(250, 400):
        put(f"t{number}", minutes_ago=20 + number % 60)
    assert run(to).processed == 150
    assert run(to).fetched == 0
    assert stripe.tally() == {("cus_1", "credits"): 400 * CREDITS_OF_A_TRACE}


def test_coverage_with_filtering_says_nothing_about_untagged_traces(put, run, settings):
    """Switching filtering off reads again what only pending traces were read of."""
    put("untagged", tags=[], minutes_ago=3 * 24 * 60)
    put("t1")
    run(settings(**FILTERED))

    assert run().processed == 1
