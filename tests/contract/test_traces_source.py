"""The traces source against the sandbox's HTTP: what it asks, and that no row is skipped however the pages move."""

import random
from collections import Counter
from itertools import pairwise
from urllib.parse import parse_qsl

import pytest
from stub_services import TRACES, Answers, Meddled

from builders import NOW_US, PROJECT, ingested, read_trace
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, format_time, parse_time
from tallymark.errors import ConfigError, Garbled, KeyRefused, TooMuch, Unavailable, Unreachable
from tallymark.remote import langfuse as remote
from tallymark.remote.langfuse import LangfuseClient
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.story import PROMPT
from tallymark.source.probe import server_version
from tallymark.source.traces import PAGE_ROWS, TracesSource

FROM_US, TO_US = NOW_US - 2 * DAY_US, NOW_US
EVERY_PARAMETER = {"fromTimestamp", "toTimestamp", "fields", "orderBy", "limit", "page"}


@pytest.fixture
def asking(serving, clock):
    """A function that gives a client of a served sandbox."""
    clients = []

    def start(service, faults=None, *, secret_key=DEFAULT_PROJECT.secret_key, per_minute=None):
        url = serving(service, faults)
        client = LangfuseClient(url, DEFAULT_PROJECT.public_key, secret_key, clock, per_minute)
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def reading(asking):
    """A function that gives a source on a served sandbox."""
    return lambda service, faults=None, *, window_us=None, **keys: TracesSource(
        asking(service, faults, **keys), window_us
    )


@pytest.fixture
def fill(put):
    """A function that writes traces a second apart (or `apart_ms`), oldest first; returns their ids."""

    def write(count, *, apart_ms=1000, start_us=FROM_US, **changes):
        ids = [f"t{number:04d}" for number in range(count)]
        for number, trace_id in enumerate(ids):
            put(trace_id, at_us=start_us + number * apart_ms * 1000, **changes)
        return ids

    return write


def ids_of(pages):
    return Counter(trace.trace_id for page in pages for trace in page.traces)


def read_all(source, **options):
    return ids_of(source.read(FROM_US, TO_US, **options))


def questions(langfuse):
    return [dict(parse_qsl(query)) for _, path, query in langfuse.requests() if path == TRACES]


# ---- what is asked


def test_pages_of_a_hundred_until_an_empty_one(langfuse, fill, reading):
    """Three pages and an empty one for 250 traces; no request per trace."""
    ids = fill(250)

    assert read_all(reading(langfuse)) == Counter(ids)
    assert langfuse.counts() == {f"GET {TRACES}": 4}


def test_every_request_says_everything(langfuse, fill, reading):
    """Server options may change every default, so nothing is left to them (facts/langfuse-observed.md item 23)."""
    fill(150)

    read_all(reading(langfuse))

    for number, asked in enumerate(questions(langfuse), 1):
        assert set(asked) == EVERY_PARAMETER
        assert asked["fromTimestamp"] == format_time(FROM_US)
        assert asked["toTimestamp"] == format_time(TO_US)
        assert asked["fields"] == "core,io,metrics"
        assert asked["orderBy"] == "timestamp.asc"
        assert (asked["limit"], asked["page"]) == (str(PAGE_ROWS), str(number))


def test_the_range_is_closed_below_and_open_above(langfuse, put, reading):
    """from <= timestamp < to."""
    for name, at_us in {"before": FROM_US - 1000, "first": FROM_US, "last": TO_US - 1000, "after": TO_US}.items():
        put(name, at_us=at_us)

    assert set(read_all(reading(langfuse))) == {"first", "last"}


def test_the_server_is_asked_only_for_pending_traces_if_told_so(langfuse, put, reading):
    """billing:pending and none of billing:processed."""
    put("pending")
    put("processed", tags=["billing:pending", "billing:processed"])
    put("untagged", tags=["team:a"])

    assert set(read_all(reading(langfuse), only_pending=True)) == {"pending"}


@pytest.mark.parametrize("options", [{"reject_no_date_range": True}, {"default_fields": ("core",)}])
def test_server_options_change_nothing(clock, reading, options):
    """Costs are there, because the fields are named."""
    server = SandboxLangfuse(clock=clock, **options)
    trace, observations = ingested("t1")
    server.put_trace(PROJECT, trace, observations)

    (page,) = reading(server).read(FROM_US, TO_US)

    assert (str(page.traces[0].units[0].cost_usd), str(page.traces[0].units[0].duration_s)) == ("0.01", "12")


def test_an_upper_bound_on_windows_is_kept(langfuse, fill, reading):
    """BILLING_SYNC_WINDOW_HOURS."""
    ids = fill(120, apart_ms=60_000)

    assert read_all(reading(langfuse, window_us=HOUR_US)) == Counter(ids)
    widths = {(asked["fromTimestamp"], asked["toTimestamp"]) for asked in questions(langfuse)}
    assert len(widths) == 48


# ---- pages that move


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [3, 30, 90])
def test_ties_across_a_page_edge_hide_no_row(clock, reading, seed, ties):
    """Equal timestamps change places between calls (facts/langfuse-observed.md item 10)."""
    server = SandboxLangfuse(clock=clock, unstable_ties_seed=seed)
    ids = [f"t{number:04d}" for number in range(240)]
    for number, trace_id in enumerate(ids):
        server.put_trace(PROJECT, {"id": trace_id, "timestamp": format_time(FROM_US + number // ties * 1000)})

    assert set(read_all(reading(server))) == set(ids)


@pytest.mark.parametrize("seed", range(6))
def test_more_traces_of_one_millisecond_than_fit_on_a_page_hide_no_row(clock, reading, seed):
    """All of them swap places among several pages."""
    server = SandboxLangfuse(clock=clock, unstable_ties_seed=seed)
    ids = [f"t{number:04d}" for number in range(950)]
    for trace_id in ids:
        server.put_trace(PROJECT, {"id": trace_id, "timestamp": format_time(FROM_US)})

    assert set(read_all(reading(server))) == set(ids)


def vanish(langfuse, ids):
    return lambda: [langfuse.delete_trace(PROJECT, trace_id) for trace_id in ids]


def appear(put, ids, at_us):
    return lambda: [put(trace_id, at_us=at_us) for trace_id in ids]


@pytest.mark.parametrize("gone", [1, 50, 99, 100, 150])
@pytest.mark.parametrize("page", [1, 2])
def test_rows_that_vanish_while_paging_hide_no_other(langfuse, fill, reading, gone, page):
    """What was read is marked or deleted, the rest moves forward: nothing of the rest is skipped."""
    ids = fill(250)
    read_before = ids[: 100 * page][:gone]
    server = Meddled(langfuse, {page: vanish(langfuse, read_before)})

    assert set(read_all(reading(server))) == set(ids)


def test_all_that_is_left_may_have_moved_to_pages_already_read(langfuse, fill, reading):
    """The next page is empty although rows are left: an empty page is the end only if nothing vanished."""
    ids = fill(180)
    server = Meddled(langfuse, {1: vanish(langfuse, ids[:80])})

    assert set(read_all(reading(server))) == set(ids)


@pytest.mark.parametrize("exchanged", [1, 60, 100])
def test_rows_that_leave_a_filtered_set_while_others_come_hide_no_row(langfuse, fill, put, reading, exchanged):
    """The number of rows stays the same, and an offset would skip as many as left."""
    ids = fill(250)

    def exchange():
        for trace_id in ids[:exchanged]:
            langfuse.put_trace(PROJECT, {"id": trace_id, "tags": ["billing:processed"]})
        appear(put, [f"new{number}" for number in range(exchanged)], TO_US - MINUTE_US)()

    read = read_all(reading(Meddled(langfuse, {1: exchange})), only_pending=True)

    assert set(ids) <= set(read)


@pytest.mark.parametrize("ties", [1, 7, 99, 100, 101, 250])
def test_a_filtered_set_is_read_whole_whatever_shares_a_millisecond(clock, reading, ties):
    """Pages that begin at the last timestamp pass groups of any size."""
    server = SandboxLangfuse(clock=clock, unstable_ties_seed=5)
    ids = [f"t{number:04d}" for number in range(310)]
    for number, trace_id in enumerate(ids):
        moment = format_time(FROM_US + number // ties * 1000)
        server.put_trace(PROJECT, {"id": trace_id, "timestamp": moment, "tags": ["billing:pending"]})

    assert set(read_all(reading(server), only_pending=True)) == set(ids)
    assert server.counts()[f"GET {TRACES}"] <= 14


def test_rows_that_appear_at_the_end_are_read_too(langfuse, fill, put, reading):
    """Traces of now come while yesterday's are read."""
    ids = fill(150)
    server = Meddled(langfuse, {1: appear(put, ["new"], TO_US - MINUTE_US)})

    assert read_all(reading(server)) == Counter([*ids, "new"])


def test_rows_that_appear_earlier_hide_none_of_the_rest(langfuse, fill, put, reading):
    """A late row pushes others to the next page: repeats are harmless, gaps are not."""
    ids = fill(250)
    server = Meddled(langfuse, {1: appear(put, [f"late{number}" for number in range(30)], FROM_US)})

    assert set(ids) <= set(read_all(reading(server)))


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_a_shrinking_filtered_set_are_all_read(langfuse, fill, reading, seed):
    """Another process marks traces while this one reads those not marked."""
    ids = fill(420)
    chance = random.Random(seed)
    processed: set[str] = set()

    def mark_some():
        done = ids[: 100 * server.pages]
        for trace_id in chance.sample(done, min(len(done), chance.choice([1, 40, 100]))):
            processed.add(trace_id)
            langfuse.put_trace(PROJECT, {"id": trace_id, "tags": ["billing:processed"]})

    server = Meddled(langfuse, dict.fromkeys(range(1, 30), mark_some))

    assert set(read_all(reading(server), only_pending=True)) | processed == set(ids)


def test_overcounted_totals_do_no_harm(clock, reading):
    """meta.totalItems counts unmerged rows after updates (facts/langfuse-observed.md item 9)."""
    server = SandboxLangfuse(clock=clock, overcount_total_items=True)
    ids = [f"t{number:04d}" for number in range(120)]
    for number, trace_id in enumerate(ids):
        for _ in range(1 + number % 3):
            server.put_trace(PROJECT, {"id": trace_id, "timestamp": format_time(FROM_US + number * 1000)})

    assert read_all(reading(server)) == Counter(ids)


# ---- questions that are too large


@pytest.mark.parametrize("rows_max", [20, 100, 250])
def test_windows_shrink_when_the_server_cannot_answer_and_grow_again(clock, reading, rows_max):
    """422 is no end: the window is halved until it is answered, and doubled after."""
    server = SandboxLangfuse(clock=clock, resource_error_rows=rows_max)
    ids = [f"t{number:04d}" for number in range(300)]
    for number, trace_id in enumerate(ids):
        server.put_trace(PROJECT, {"id": trace_id, "timestamp": format_time(FROM_US + number * MINUTE_US)})

    assert set(read_all(reading(server))) == set(ids)
    asked = questions(server)
    widths = [window_us(one) for one in asked]
    assert any(later > earlier for earlier, later in pairwise(widths))
    assert len(asked) < 120


def window_us(asked):
    return parse_time(asked["toTimestamp"]) - parse_time(asked["fromTimestamp"])


def test_a_server_that_cannot_answer_a_minute_is_named(clock, reading):
    """The window does not shrink for ever."""
    server = SandboxLangfuse(clock=clock, resource_error_rows=5)
    for number in range(20):
        server.put_trace(PROJECT, {"id": f"t{number}", "timestamp": format_time(FROM_US)})

    with pytest.raises(TooMuch, match="cannot answer even one minute"):
        read_all(reading(server))


# ---- limits and failures


def test_429_is_obeyed_with_its_retry_after(clock, reading):
    """Langfuse Cloud's limit of 15 reads a minute: the reading takes the minutes it takes."""
    server = SandboxLangfuse(clock=clock, rate_limit_per_minute=15)
    ids = [f"t{number:04d}" for number in range(3000)]
    for number, trace_id in enumerate(ids):
        server.put_trace(PROJECT, {"id": trace_id, "timestamp": format_time(FROM_US + number * 1000)})

    assert read_all(reading(server)) == Counter(ids)
    assert 2 * MINUTE_US <= clock.now_us() - NOW_US <= 4 * MINUTE_US
    refused = server.counts()[f"GET {TRACES}"] - 31
    assert refused <= 3


def test_a_request_budget_is_kept(langfuse, fill, clock, reading):
    """No more than 10 requests in any minute, and no 429 needed to learn it."""
    at_us = []

    class Watch:
        def handle(self, request):
            at_us.append(clock.now_us())
            return langfuse.handle(request)

    ids = fill(2450)

    assert read_all(reading(Watch(), per_minute=10)) == Counter(ids)
    assert all(later - first >= MINUTE_US for first, later in zip(at_us, at_us[10:], strict=False))
    assert len(at_us) == 26


@pytest.mark.parametrize(
    "fault",
    [
        Fault.ERROR_BEFORE,
        Fault.ERROR_AFTER,
        Fault.RESET_BEFORE,
        Fault.RESET_AFTER,
        Fault.TRUNCATED,
        Fault.HTML,
        Fault.RATE_LIMITED,
    ],
)
def test_failures_in_passing_are_read_through(langfuse, fill, reading, fault):
    """A third of all requests fails: every row is read all the same."""
    ids = fill(900)
    faults = Faults(3, {fault: 0.34})

    assert set(read_all(reading(langfuse, faults))) == set(ids)
    assert faults.done[fault] > 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.ERROR_BEFORE, Unavailable),
        (Fault.HTML, Unavailable),
        (Fault.RESET_BEFORE, Unreachable),
        (Fault.TRUNCATED, (Unreachable, Garbled)),
    ],
)
def test_a_server_that_only_fails_is_named_after_some_attempts(langfuse, fill, reading, fault, error):
    """Not for ever, and never as an error of the HTTP library."""
    fill(1)
    faults = Faults(3, {fault: 1})

    with pytest.raises(error, match=r"127\.0\.0\.1"):
        read_all(reading(langfuse, faults))
    assert faults.done[fault] == remote.ATTEMPTS_MAX


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"", b"[]", b'{"data":', b'{"data":[],"meta":7}', b"\xff\xfe", b'{"data":[NaN]}']
)
def test_a_200_that_is_not_langfuses_json_is_named(reading, body):
    """A proxy's login page, or another service at that address; asked again, as it may have been cut short."""
    server = Answers(200, body)

    with pytest.raises(Garbled, match="LANGFUSE_BASE_URL"):
        read_all(reading(server))
    assert server.seen == remote.ATTEMPTS_MAX


def test_429_for_ever_ends(reading, clock):
    """A quarter of an hour of nothing else is unavailable."""
    with pytest.raises(Unavailable, match="answered 429 for"):
        read_all(reading(Answers(429, b"{}", {"retry-after": "120"})))
    assert clock.now_us() - NOW_US <= 16 * MINUTE_US


def test_nobody_at_home_is_unreachable(clock):
    """A port where nothing listens."""
    source = TracesSource(LangfuseClient("http://127.0.0.1:9", "pk", "sk", clock))

    with pytest.raises(Unreachable, match="LANGFUSE_BASE_URL"):
        read_all(source)


def test_a_wrong_key_is_refused_at_once_and_names_the_variables(langfuse, reading):
    """No retry helps."""
    with pytest.raises(KeyRefused, match="LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY") as refused:
        read_all(reading(langfuse, secret_key="sk-lf-wrong"))

    assert "sk-lf-wrong" not in str(refused.value)
    assert langfuse.counts() == {f"GET {TRACES}": 1}


def test_a_server_without_the_filter_parameter_is_refused(clock, asking):
    """Before 3.117 the filter is silently ignored (facts/langfuse.md section 0.5)."""
    with pytest.raises(ConfigError, match=r"3\.116\.9.*upgrade"):
        server_version(asking(SandboxLangfuse(clock=clock, version="3.116.9")))


@pytest.mark.parametrize("version", ["3.117.0", "3.225.4", "4.16.0", "3.120.0-rc.1"])
def test_newer_servers_are_read(clock, asking, version):
    """By number, not by text."""
    assert server_version(asking(SandboxLangfuse(clock=clock, version=version))) == version


# ---- lookups


def unpriced_of(source, names):
    """Which traces of these names have tokens and no cost, and how many requests that takes."""
    before = source._client.requests
    found = source.unpriced([read_trace(name, minutes_ago=60 + number) for number, name in enumerate(names)])
    return found, source._client.requests - before


def test_tokens_without_a_cost_are_asked_by_id(put, reading, langfuse):
    """A hundred at a time, to the last page, since a trace may have two rows; nothing is asked about nothing."""
    names = [f"{kind}{number}" for number in range(60) for kind in ("unpriced", "priced")]
    for number, name in enumerate(names):
        put(name, minutes_ago=60 + number, cost=None if number % 2 == 0 else "0.01")
        langfuse.duplicate_trace(PROJECT, name, format_time(NOW_US - 2 * DAY_US))
    source = reading(langfuse)

    assert unpriced_of(source, []) == (set(), 0)
    assert unpriced_of(source, names[:100]) == (set(names[:100:2]), 2)


@pytest.mark.parametrize(("unpriced", "requests"), [(0, 1), (99, 1), (100, 4), (150, 4)])
def test_of_many_traces_few_unpriced_are_asked_in_one_request(put, reading, langfuse, unpriced, requests):
    """By the range of their times; a full page may not be all, and rows of later pages may move: then by their ids."""
    names = [f"t{number}" for number in range(150)]
    for number, name in enumerate(names):
        put(name, minutes_ago=60 + number, cost=None if number < unpriced else "0.01")

    assert unpriced_of(reading(langfuse), names) == (set(names[:unpriced]), requests)


def test_reading_many_by_id_reads_nothing_else(langfuse, fill, reading):
    """For held traces and confirmations."""
    fill(30)

    page = reading(langfuse).read_many(["t0003", "t0017", "gone"], 0)

    assert {trace.trace_id for trace in page.traces} == {"t0003", "t0017"}


def test_a_hundred_long_ids_are_read_all_the_same(langfuse, put, reading):
    """Ids may have 800 characters: a hundred of them are more than a URL can carry."""
    ids = [f"{number:03d}-" + "é" * 796 for number in range(100)]
    for trace_id in ids:
        put(trace_id)

    page = reading(langfuse).read_many(ids, 0)

    assert {trace.trace_id for trace in page.traces} == set(ids)


def test_no_prompt_leaves_the_parser(langfuse, fill, reading):
    """input and output are not decoded at all (G7)."""
    fill(3, input={"messages": [PROMPT]}, output=PROMPT)

    pages = list(reading(langfuse).read(FROM_US, TO_US))

    assert "secret prompt" in repr(langfuse.trace(PROJECT, "t0000"))
    assert "secret prompt" not in repr(pages)
