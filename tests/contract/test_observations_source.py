"""The observations source: what it asks, and what becomes of every kind of row and page it may be given."""

import json
from itertools import pairwise

import pytest
from observation_services import (
    OBSERVATIONS,
    credits,
    observation,
    results_of,
)
from stub_services import Answers, Counting

from builders import CREDITS_OF_A_TRACE, NOW_US
from tallymark.core.clock import DAY_US, MINUTE_US, SECOND_US
from tallymark.errors import Garbled, KeyRefused, Unavailable, WrongMode
from tallymark.remote import langfuse as remote
from tallymark.remote.langfuse import ATTEMPTS_MAX, LangfuseClient
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.source.observations import IDS_MAX, PAGE_ROWS, ObservationsSource, WindowEnd
from tallymark.source.windows import Windows

FROM_US, TO_US = NOW_US - 2 * DAY_US, NOW_US

READS = f"GET {OBSERVATIONS}"
SECRET = "a prompt that nobody may see"


def whole():
    """All of the range as one window."""
    return Windows(FROM_US, TO_US, TO_US - FROM_US)


@pytest.fixture
def langfuse(clock):
    """An events_only sandbox."""
    return SandboxLangfuse(clock=clock, generation="events_only")


@pytest.fixture
def reading(serving, clock):
    """A function that gives a source on a served sandbox."""
    clients = []

    def start(service, faults=None, *, secret_key=DEFAULT_PROJECT.secret_key):
        client = LangfuseClient(serving(service, faults), DEFAULT_PROJECT.public_key, secret_key, clock)
        clients.append(client)
        return ObservationsSource(client)

    yield start
    for client in clients:
        client.close()


def asked(counting):
    return [dict(request.query) for request in counting.seen if request.path == OBSERVATIONS]


# ---- what is asked


def test_only_what_rating_needs_is_asked_for(langfuse, write, run, settings):
    """1,000 rows a page, never the group `io`, and the billing metadata in full; the window closed below."""
    write("t1", (60, {"input": SECRET, "output": SECRET}))
    counting = Counting(langfuse)

    run(settings(read_from=counting))

    probed, *pages = asked(counting)
    assert probed["limit"] == "1"
    for query in pages:
        assert query["limit"] == str(PAGE_ROWS) == "1000"
        assert set(query["fields"].split(",")) == {
            "core", "basic", "time", "metadata", "model", "usage", "trace_context"
        }  # fmt: skip
        assert {"customerId", "stripeCustomerId", "aiCredentialsOwnership", "billing_status"} <= set(
            query["expandMetadata"].split(",")
        )
        assert query["fromStartTime"] < query["toStartTime"]


def test_no_prompt_reaches_the_ledger(write, run, ledger_path):
    """It was never asked for (G7)."""
    write("t1", (60, {"input": SECRET, "output": SECRET}), input=SECRET)
    run()

    assert SECRET.encode() not in ledger_path.read_bytes()


def test_windows_cover_the_range_once(langfuse, reading):
    """The oldest first, each beginning where the one before it ended."""
    windows = list(reading(langfuse).windows(NOW_US - 7 * DAY_US - 1, NOW_US))

    assert (windows[0][0], windows[-1][1]) == (NOW_US - 7 * DAY_US - 1, NOW_US)
    assert all(first[1] == second[0] for first, second in pairwise(windows))
    assert all(end_us - start_us <= 2 * DAY_US for start_us, end_us in windows)


def test_the_cursor_is_walked_to_the_end(langfuse, write, reading):
    """2,500 observations on three pages, each once."""
    for number in range(2500):
        write(f"t{number}", (number % 1440 + 1, {}))
    counting = Counting(langfuse)

    *pages, end = reading(counting).read(Windows(FROM_US, TO_US, TO_US - FROM_US))

    assert end == WindowEnd(TO_US)
    assert [page.rows for page in pages] == [1000, 1000, 500]
    assert len({one.trace_id for page in pages for one in page.readings}) == 2500
    assert len(counting.seen) == 3


def test_traces_by_id_are_asked_a_hundred_at_a_time(langfuse, write, reading):
    """A URL has a length; ids are neither lost nor asked twice."""
    ids = [f"t{number}" for number in range(2 * IDS_MAX + 5)]
    for number, trace_id in enumerate(ids):
        write(trace_id, (number + 1, {}), (number, {}))
    counting = Counting(langfuse)

    found = [one.trace_id for page in reading(counting).read_traces(ids) for one in page.readings]

    assert sorted(found) == sorted(ids)
    assert [len(json.loads(query["filter"])[0]["value"]) for query in asked(counting)] == [IDS_MAX, IDS_MAX, 5]


def test_an_idle_run_asks_hardly_anything(langfuse, write, run):
    """At most three requests besides the pages."""
    for number in range(1500):
        write(f"t{number}", (16 + number % 100, {}), (16, {}))
    first = run()
    pages_max = 3000 // PAGE_ROWS + 1
    langfuse.clear_requests()

    idle = run()

    assert (first.processed, idle.processed) == (1500, 0)
    assert idle.requests.langfuse == sum(langfuse.counts().values()) <= pages_max + 3
    assert set(langfuse.counts()) == {READS, "GET /api/public/health"}


def test_a_budget_of_requests_is_kept(langfuse, write, run, settings, clock):
    """BILLING_LANGFUSE_REQUESTS_PER_MINUTE: no more in any 60 seconds; the clock waits."""
    write("t1", (60, {}))
    before_us = clock.now_us()

    summary = run(settings(BILLING_LANGFUSE_REQUESTS_PER_MINUTE="4"))

    minutes = (clock.now_us() - before_us) / MINUTE_US
    assert summary.requests.langfuse <= 4 * (minutes + 1)
    assert summary.processed == 1


# ---- pages that are not as they should be


def test_a_cursor_that_repeats_is_an_error(bill, run, settings, stripe):
    """A list without an end is told, and not read for ever."""
    with pytest.raises(Garbled, match="same cursor twice"):
        bill([observation()], [observation("o2")], cursors=["1", "1"])
    assert stripe.tally() == {}


def test_a_cursor_that_goes_round_in_a_circle_is_an_error(bill, stripe):
    """Also when other cursors lie between."""
    with pytest.raises(Garbled, match="same cursor twice"):
        bill(*[[observation(f"o{n}")] for n in range(5)], cursors=["a", "b", "c", "d", "b"])
    assert stripe.tally() == {}


def test_an_empty_page_with_a_cursor_is_the_end(bill):
    """Whatever its cursor says."""
    summary, billed = bill([observation()], [], [observation("never", trace_id="t9")], cursors=["1", "2", None])

    assert (summary.fetched, billed) == (1, credits(CREDITS_OF_A_TRACE))


@pytest.mark.parametrize("body", [b"[]", b'{"data":[]}', b'{"data":1,"meta":{}}', b"<html>", b""])
def test_something_else_than_a_page_is_an_error(body, reading):
    """Never an empty list."""
    with pytest.raises(Garbled):
        list(reading(Answers(200, body)).read(whole()))


BROKEN = {
    "no time zone": {"startTime": "2026-11-23T11:00:00.000"},
    "no time": {"startTime": "yesterday"},
    "a cost of text": {"costDetails": {"total": "much"}},
    "tags of numbers": {"tags": [1]},
    "usage of text": {"usageDetails": {"input": "many"}},
    "an end of text": {"endTime": "never"},
    "an end without a zone": {"endTime": "2026-11-23T11:00:12.000"},
    "a version time without a zone": {"updatedAt": "2026-11-23T11:00:12.000"},
    "no id": {"id": None},
    "no trace": {"traceId": None},
    "costs in a list": {"costDetails": [1]},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_one_broken_row_does_not_spoil_its_page(broken, bill):
    """The others are billed; the broken one is counted, and never as free."""
    row = {**observation("bad", trace_id="t-bad"), **BROKEN[broken]}

    summary, billed = bill([observation("o1"), row, observation("o2", trace_id="t2")])

    assert (summary.fetched, summary.processed) == (3, 2)
    assert results_of(summary) in ({"processed": 2, "unrated": 1}, {"processed": 2, "failed": 1})
    assert billed == credits(2 * CREDITS_OF_A_TRACE)


@pytest.mark.parametrize(
    "wild",
    [
        '"costDetails": {"total": 1e400}',
        '"costDetails": {"a": 1e400, "b": 1}',
        '"costDetails": {"total": -0.5}',
        '"usageDetails": {"total": 1e30}',
        '"usageDetails": {"total": 1e400000}',
        '"usageDetails": {"input": 9e18, "output": 9e18}',
        '"usageDetails": {"input": 9e999999, "output": 9e999999}',
    ],
)
def test_numbers_that_cannot_be_true_are_held(wild, bill):
    """Negative, or beyond all bounds: unrated, while the rest of the page is billed."""
    row = json.dumps({**observation("wild", trace_id="t-wild"), "x": 0}).replace('"x": 0', wild)

    summary, billed = bill([observation(), row])

    assert results_of(summary) == {"processed": 1, "unrated": 1}
    assert billed == credits(CREDITS_OF_A_TRACE)


# ---- errors of the server


def test_refused_keys_are_told(langfuse, reading):
    """401 is the keys, not an empty project."""
    with pytest.raises(KeyRefused, match="LANGFUSE_PUBLIC_KEY"):
        list(reading(langfuse, secret_key="sk-wrong").read(whole()))


def test_a_404_of_the_mode_is_no_missing_trace(langfuse, reading):
    """A server of version 3 says that observations are only there in a v4 write mode."""
    langfuse.set_generation("legacy")
    with pytest.raises(WrongMode):
        list(reading(langfuse).read(whole()))


def test_rate_limits_are_waited_out(langfuse, write, run, settings, clock):
    """429 with Retry-After: as long as it says."""
    write("t1", (60, {}))
    faults = Faults(
        0, {Fault.RATE_LIMITED: 1}, only=lambda request: request.path == OBSERVATIONS, limit=3, retry_after_seconds=7
    )
    before_us = clock.now_us()

    assert run(settings(langfuse_faults=faults)).processed == 1
    assert clock.now_us() - before_us >= 3 * 7 * SECOND_US


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.RESET_AFTER, Fault.TRUNCATED, Fault.HTML])
def test_a_server_in_trouble_is_asked_again(fault, langfuse, write, run, settings):
    """Now and then: every trace is billed once."""
    for number in range(1100):
        write(f"t{number}", (16 + number, {}), (16 + number, {}))
    faults = Faults(3, {fault: 0.4}, only=lambda request: request.path == OBSERVATIONS)

    assert run(settings(langfuse_faults=faults)).processed == 1100
    assert faults.done[fault] > 0


def test_a_server_in_trouble_for_good_is_an_error_and_nothing_is_lost(langfuse, write, run, settings, stripe):
    """The next run goes on, also with what was stored of an undecided trace."""
    for number in range(1100):
        write(f"t{number}", (60, {}), (16 + number // 20, {}))
    pages = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: "cursor" in dict(request.query), limit=ATTEMPTS_MAX)

    with pytest.raises(Unavailable):
        run(settings(langfuse_faults=pages))
    assert stripe.tally() == {}

    assert run().processed == 1100


def test_patience_with_rate_limits_ends(reading, monkeypatch):
    """A server that answers nothing but 429 is unavailable."""
    monkeypatch.setattr(remote, "RATE_LIMIT_PATIENCE_SECONDS", 60)
    always = Answers(429, b'{"message":"Rate limit exceeded"}', {"retry-after": "20"})
    with pytest.raises(Unavailable, match="429"):
        list(reading(always).read(whole()))
    assert always.seen < 10
