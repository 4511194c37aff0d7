"""The whole path over loopback HTTP: what a sync bills, judged by Stripe's own tally."""

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT

from tallymark.core.clock import DAY_US
from tallymark.sandbox.story import expect, tell

STORY_TRACES = 1000


def test_the_story_comes_to_what_it_should(langfuse, run, balance):
    """Every kind of trace ends where the story says, and Stripe's tally and the carry are exact to the micro-credit."""
    for told in tell(STORY_TRACES, NOW_US):
        langfuse.put_trace(PROJECT, told.trace, told.observations)
        if told.bookmarked:
            langfuse.bookmark(PROJECT, told.trace["id"])
    expected = expect(tell(STORY_TRACES, NOW_US))

    summary = run(from_us=NOW_US - 40 * DAY_US)

    counted = {"processed": summary.processed, **summary.skipped, **summary.held}
    assert {result: traces for result, traces in counted.items() if traces} == dict(expected.results)
    assert summary.fetched == STORY_TRACES
    assert balance() == dict(expected.micros)


def test_one_trace(put, run, stripe):
    put("t1")

    assert run().processed == 1
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}
