"""Windows of observations that a server cannot answer, or never stops answering: read on narrower, or told."""

import itertools
import json

import pytest
from observation_services import EMPTY, JSON, OBSERVATIONS, ObservationPages, credits, observation
from stub_services import Counting

from builders import CREDITS_OF_A_TRACE, NOW_US
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, format_time, parse_time
from tallymark.errors import Garbled, TooMuch
from tallymark.remote.langfuse import LangfuseClient
from tallymark.sandbox.langfuse import DEFAULT_PROJECT, SandboxLangfuse
from tallymark.sandbox.langfuse.answers import too_much
from tallymark.source.observations import IDS_MAX, PAGE_ROWS, ObservationsSource
from tallymark.source.windows import Windows

TRACES = 300


@pytest.fixture(params=[30])
def langfuse(request, clock):
    """An events_only sandbox that answers no window of more rows than that."""
    return SandboxLangfuse(clock=clock, generation="events_only", resource_error_rows=request.param)


@pytest.fixture
def source(serving, clock):
    """A function that gives a source on a served sandbox."""
    clients = []

    def start(service):
        client = LangfuseClient(serving(service), DEFAULT_PROJECT.public_key, DEFAULT_PROJECT.secret_key, clock)
        clients.append(client)
        return ObservationsSource(client)

    yield start
    for client in clients:
        client.close()


def widths(counting):
    """How wide each window was that was asked for, in microseconds; without those of the future."""
    asked = [dict(request.query) for request in counting.seen if request.path == OBSERVATIONS]
    return [_width_us(one) for one in asked if one.get("fromStartTime", "9") < format_time(NOW_US)]


def _width_us(query):
    return parse_time(query["toStartTime"]) - parse_time(query["fromStartTime"])


# ---- 422: narrower windows


@pytest.mark.parametrize("langfuse", [20, 50, 100], indirect=True)
def test_windows_shrink_when_the_server_cannot_answer_and_grow_again(langfuse, put, run, settings, stripe):
    """422 is no end: the window is halved until it is answered, and doubled after; every trace is billed once."""
    for number in range(TRACES):
        put(f"t{number:03d}", minutes_ago=20 + number)
    counting = Counting(langfuse)

    summary = run(settings(read_from=counting))

    assert (summary.fetched, summary.processed) == (TRACES, TRACES)
    assert stripe.tally() == {("cus_1", "credits"): TRACES * CREDITS_OF_A_TRACE}
    asked = widths(counting)
    assert any(later < earlier for earlier, later in itertools.pairwise(asked))
    assert any(later > earlier for earlier, later in itertools.pairwise(asked))
    assert len(asked) < 150
    assert run(full=True).processed == 0


def test_windows_are_halved_and_doubled():
    """Each begins where the last one that was not shrunk ended; together they cover the range once."""
    windows, given = Windows(0, 8 * HOUR_US, 4 * HOUR_US), []
    for number, (start_us, end_us) in enumerate(windows):
        given.append((start_us // HOUR_US, end_us // HOUR_US))
        if number in (0, 1):
            windows.shrink()

    assert given == [(0, 4), (0, 2), (0, 1), (1, 3), (3, 7), (7, 8)]


def test_the_smallest_window_is_a_minute():
    """Less is not asked for."""
    windows = Windows(0, DAY_US, 2 * MINUTE_US)
    asked = iter(windows)
    next(asked)
    windows.shrink()

    assert next(asked) == (0, MINUTE_US)
    with pytest.raises(TooMuch, match="1970-01-01T00:00:00"):
        windows.shrink()


def test_a_server_that_cannot_answer_a_minute_is_named_and_what_lies_before_is_decided(langfuse, put, run, look):
    """The window does not shrink for ever; older windows are recorded, and the next run goes on behind them."""
    put("before", minutes_ago=3 * 24 * 60)
    for number in range(40):
        put(f"crowd{number}", minutes_ago=60)

    with pytest.raises(TooMuch, match="cannot answer even one minute of observations at 2026-11-23T1"):
        run()

    assert look("select trace_id, outcome from trace") == [("before", "billed")]
    [(covered_us,)] = look("select to_us from coverage")
    assert NOW_US - 61 * MINUTE_US <= covered_us <= NOW_US - 60 * MINUTE_US


class TooMuchAfter:
    """A server that answers 422 to a page behind a cursor of any window wider than an hour."""

    def __init__(self, service):
        self.service, self.refused = service, 0

    def handle(self, request):
        query = dict(request.query)
        if "cursor" in query and "fromStartTime" in query and _width_us(query) > HOUR_US:
            self.refused += 1
            return too_much().response
        return self.service.handle(request)


@pytest.mark.parametrize("langfuse", [None], indirect=True)
def test_pages_that_came_before_a_422_are_read_again_without_harm(langfuse, write, run, settings, balance):
    """The root of the trace lies in one half of the window, its other observations in the other: one trace, once."""
    for number in range(1500):
        write(f"t{number}", (16 + number % 100, {}))
    write("long", (20 * 60, {}), (16, {}), (17, {}))
    server = TooMuchAfter(langfuse)

    summary = run(settings(read_from=server))

    assert server.refused > 0
    assert (summary.fetched, summary.processed, summary.adjusted) == (1501, 1501, 0)
    before = balance()
    assert run(full=True).processed == 0
    assert balance() == before


def test_rows_that_cannot_be_read_count_once_when_a_window_is_read_again(run, settings):
    """A 422 in the middle of a window: its first page comes twice."""
    nameless = {**observation("bad"), "id": None}
    server = TooMuchAfter(ObservationPages([observation("o1"), nameless], [observation("o2", trace_id="t2")]))

    summary = run(settings(read_from=server))

    assert server.refused > 0
    assert (summary.fetched, summary.processed, summary.failed) == (3, 2, 1)


def test_fewer_traces_are_asked_for_by_id_when_all_are_too_much(langfuse, write, source):
    """A hundred traces of three observations from a server that answers thirty rows: none is lost."""
    ids = [f"t{number}" for number in range(IDS_MAX)]
    for number, trace_id in enumerate(ids):
        write(trace_id, (number + 3, {}), (number + 2, {}), (number + 1, {}))
    counting = Counting(langfuse)

    found = [one.trace_id for page in source(counting).read_traces(ids) for one in page.readings]

    assert sorted(found) == sorted(ids)
    assert min(len(json.loads(dict(request.query)["filter"])[0]["value"]) for request in counting.seen) <= 10


def test_one_trace_that_is_too_much_is_named(langfuse, write, source):
    """There is nothing smaller to ask for."""
    write("huge", *[(number + 1, {}) for number in range(31)])

    with pytest.raises(TooMuch, match="all observations of the trace 'huge'"):
        list(source(langfuse).read_traces(["small", "huge"]))


# ---- the same rows for ever


class Endless:
    """An events_only server whose pages come round and round, with a new cursor each time."""

    def __init__(self, *pages):
        self.pages = ObservationPages(*pages)
        self.answered = 0

    def handle(self, request):
        response = self.pages.handle(type(request)("GET", request.path, _without_cursor(request), request.headers))
        if request.path != OBSERVATIONS or response.body == EMPTY:
            return response
        shown = self.pages.pages[self.answered % len(self.pages.pages)]
        self.answered += 1
        assert self.answered < 100, "it was read for ever"
        body = f'{{"data":[{",".join(shown)}],"meta":{{"cursor":"{self.answered}"}}}}'
        return type(response)(200, body.encode(), JSON)


def _without_cursor(request):
    return tuple(pair for pair in request.query if pair[0] != "cursor")


def row(second, span_id="o1", **changes):
    return observation(span_id, startTime=f"2026-11-23T11:00:{second:02d}.000Z", **changes)


SAME = [observation(f"o{number}") for number in range(3)]
ENDLESS = {
    "one page": [[row(30), row(20, "o2"), row(10, "o3")]],
    "one page of one moment": [SAME],
    "two pages": [[row(30), row(20, "o2")], [row(20, "o3"), row(10, "o4")]],
    "three pages of one moment": [[observation("o1")], [observation("o2")], [observation("o3")]],
    "pages that overlap in one moment": [SAME[:2], SAME[1:], [SAME[2], SAME[0]]],
    "synthetic rows": [[observation("t-t1"), observation("t-t2", trace_id="t2")]],
}


@pytest.mark.parametrize("pages", ENDLESS.values(), ids=ENDLESS)
def test_rows_that_repeat_under_new_cursors_are_an_error(pages, run, settings, stripe):
    """A list without an end is told, and not read for ever."""
    with pytest.raises(Garbled, match="never ends"):
        run(settings(read_from=Endless(*pages)))
    assert stripe.tally() == {}


@pytest.mark.parametrize("langfuse", [None], indirect=True)
def test_many_pages_of_one_moment_are_no_repetition(langfuse, write, source):
    """Equal start times are legal for more than a page, and so are two versions of each row."""
    rows = 2 * PAGE_ROWS + 500
    for number in range(rows):
        write(f"t{number}", (60, {}))

    *pages, _ = source(langfuse).read(Windows(NOW_US - DAY_US, NOW_US, DAY_US))

    assert len({one.trace_id for page in pages for one in page.readings}) == rows


def test_pages_of_nothing_but_synthetic_rows_of_one_moment_are_no_repetition(bill):
    """They say when a trace was and what it carries, and are no usage."""
    summary, _ = bill(*[[observation(f"t-t{number}", trace_id=f"t{number}")] for number in range(4)])

    assert (summary.fetched, summary.skipped["no_billable_usage"]) == (4, 4)


@pytest.mark.parametrize("order", [1, -1])
def test_a_page_with_one_new_row_is_no_repetition(order, bill):
    """Whatever else it repeats, in whatever order: it brings the list on."""
    spans = [[row(30, "o1"), row(30, "o2")], [row(30, "o2"), row(30, "o3")], [row(20, "o3"), row(20, "o4")]]

    summary, billed = bill(*spans[::order])

    assert (summary.processed, summary.held) == (1, dict.fromkeys(summary.held, 0))
    assert billed.keys() == credits(1).keys()


@pytest.mark.parametrize("order", [1, -1])
def test_a_span_that_was_written_again_with_another_start_is_no_repetition(order, bill):
    """Rows of one id at several times: the server never merges them, and gives them all."""
    pages = [[row(second + 1, "o1"), row(second, "o2")] for second in (30, 20, 10)]

    assert bill(*pages[::order])[0].processed == 1
