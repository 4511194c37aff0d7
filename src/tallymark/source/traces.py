"""The legacy generation: GET /traces in pages of 100, windows closed on both ends, no GET per trace.

How a window is read so that nothing is skipped (docs/adr/0004): pages by offset, oldest first; where a page's edge
could hide a row (equal timestamps across the edge, or rows that left the window) the reading starts again from the
last timestamp. Filtered by tag, where rows leave while others come, every page starts at the last timestamp of the one
before. Repeats are harmless, because the ledger knows a trace by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote_plus

import msgspec
from msgspec.structs import replace

from ..core.clock import DAY_US, HOUR_US, format_time, parse_time
from ..core.types import Trace
from ..errors import TooMuch
from ..remote.langfuse import LangfuseClient
from .rows import PENDING_TAG, PROCESSED_TAG, Page, decode_page
from .scores import marked_among
from .windows import WINDOW_US_MIN

PAGE_ROWS = 100
MILLISECOND_US = 1000
# An observation may start long before its trace; a confirming read looks this far back (observed item 5).
CONFIRM_LOOKBACK_US = 35 * DAY_US
# Node's HTTP server, which Langfuse runs on, refuses a request line and headers of more than 16 kB together.
ASKED_IDS_BYTES_MAX = 8_000
FAR_US = parse_time("2100-01-01T00:00:00Z")

BILLED_FIELDS = "core,io,metrics"
Filter = dict[str, object]

NOT_YET_BILLED: tuple[Filter, ...] = (
    {"type": "arrayOptions", "column": "tags", "operator": "any of", "value": [PENDING_TAG]},
    {"type": "arrayOptions", "column": "tags", "operator": "none of", "value": [PROCESSED_TAG]},
)
TOKENS_WITHOUT_COST: tuple[Filter, ...] = (
    {"type": "number", "column": "totalCost", "operator": "=", "value": 0},
    {"type": "number", "column": "totalTokens", "operator": ">", "value": 0},
)
MARKED_BY_SCORE: tuple[Filter, ...] = (
    {
        "type": "categoryOptions",
        "column": "score_categories",
        "key": "billing_status",
        "operator": "any of",
        "value": ["processed"],
    },
)
MARKED_BY_TAG: tuple[Filter, ...] = (
    {"type": "arrayOptions", "column": "tags", "operator": "any of", "value": [PROCESSED_TAG]},
)
MARKED_BY_METADATA: tuple[Filter, ...] = (
    {"type": "stringObject", "column": "metadata", "key": "billing_status", "operator": "=", "value": "processed"},
)


Ahead = Callable[[Iterator[Page]], Iterator[Page]]


@dataclass(slots=True)
class _Window:
    """Where the reading of a range stands. Beyond the horizon (the present) hardly any trace lies: one window does.

    With `by_time` each page starts at the last timestamp of the one before, not at an offset.
    """

    start_us: int
    end_us: int
    to_us: int
    horizon_us: int
    width_us: int
    by_time: bool
    page: int = 1
    last_us: int | None = None
    total_items: int | None = None

    def restart(self, start_us: int) -> None:
        """Read on from a moment, from page 1."""
        self.start_us, self.page, self.last_us, self.total_items = start_us, 1, None, None

    def open(self, start_us: int) -> None:
        """Go to the window that begins at a moment."""
        self.restart(start_us)
        end_us = start_us + self.width_us
        self.end_us = self.to_us if end_us >= self.horizon_us else min(end_us, self.to_us)


class TracesSource:
    """Reads traces of one project from a Langfuse server of the legacy generation."""

    generation = "traces"

    def __init__(self, client: LangfuseClient, window_us_max: int | None = None) -> None:
        self._client = client
        self._window_us_max = window_us_max

    def read(
        self, from_us: int, to_us: int, only_pending: bool = False, horizon_us: int | None = None
    ) -> Iterator[Page]:
        """Pages of traces with from_us <= timestamp < to_us, oldest first; a trace may come more than once.

        `only_pending` asks the server for traces tagged billing:pending and not billing:processed. `horizon_us` is
        the present, where to_us lies far ahead of it.
        """
        filters = NOT_YET_BILLED if only_pending else ()
        return self._walk(from_us, to_us, BILLED_FIELDS, filters, horizon_us, by_time=only_pending)

    def count(self, from_us: int, to_us: int) -> int:
        """How many traces the server counts in a range; it may count one twice (facts/langfuse.md section 2.1)."""
        return self._ask(from_us, to_us, 1, "core", (), rows=1).total_items

    def read_many(self, trace_ids: Sequence[str], from_us: int) -> Page:
        """The rows of at most 100 traces by id, with the cost of every observation since from_us."""
        pages = [self._read_ids(ids, from_us) for ids in _chunks_for_url(trace_ids)]
        traces = [trace for page in pages for trace in page.traces]
        unreadable = [problem for page in pages for problem in page.unreadable]
        return Page(traces, len(traces), sum(page.rows for page in pages), unreadable)

    def _read_ids(self, trace_ids: Sequence[str], from_us: int) -> Page:
        return self._ask(max(from_us, 0), FAR_US, 1, BILLED_FIELDS, (_among(trace_ids),))

    def confirm(self, traces: Sequence[Trace]) -> list[Trace]:
        """Read traces again so widely that no early observation is cut off; used before a bill is ever lowered."""
        found: list[Trace] = []
        for at in range(0, len(traces), PAGE_ROWS):
            chunk = traces[at : at + PAGE_ROWS]
            earliest_us = min(trace.timestamp_us for trace in chunk)
            found += self.read_many([trace.trace_id for trace in chunk], earliest_us - CONFIRM_LOOKBACK_US).traces
        return found

    def scored(self, from_us: int, to_us: int, horizon_us: int | None = None, ahead: Ahead = iter) -> IdStream:
        """The traces of one range that a score marks, which their rows do not tell. `ahead` may ask before it must."""
        pages = self._walk(from_us, to_us, "core", MARKED_BY_SCORE, horizon_us)
        return IdStream(ahead(map(self._marked_themselves, pages)))

    def marked(self, from_us: int, to_us: int) -> dict[str, IdStream]:
        """The traces of a range that are marked, by how they are: for who has older rows of them from elsewhere."""
        filters = {"metadata": MARKED_BY_METADATA, "tag": MARKED_BY_TAG}
        by_row = {how: IdStream(self._walk(from_us, to_us, "core", each)) for how, each in filters.items()}
        return {**by_row, "score": self.scored(from_us, to_us)}

    def unpriced(self, traces: Sequence[Trace]) -> set[str]:
        """Which of these traces have tokens and no cost. Asked after their rows were read: what came between counts."""
        if len(traces) > PAGE_ROWS:
            times = [trace.timestamp_us for trace in traces]
            page = self._ask(min(times), max(times) + MILLISECOND_US, 1, "core", TOKENS_WITHOUT_COST)
            if page.rows < PAGE_ROWS:
                return {trace.trace_id for trace in page.traces}
        return self._unpriced_among([trace.trace_id for trace in traces])

    def _unpriced_among(self, trace_ids: Sequence[str]) -> set[str]:
        return {
            trace.trace_id
            for at in range(0, len(trace_ids), PAGE_ROWS)
            for ids in _chunks_for_url(trace_ids[at : at + PAGE_ROWS])
            for page in self._unpriced_pages(ids)
            for trace in page.traces
        }

    def _unpriced_pages(self, trace_ids: Sequence[str]) -> Iterator[Page]:
        """A trace may have two rows, on two dates, so a hundred ids may be more than a page."""
        number, full = 1, True
        while full:
            page = self._ask(0, FAR_US, number, "core", (_among(trace_ids), *TOKENS_WITHOUT_COST))
            number, full = number + 1, page.rows == PAGE_ROWS
            yield page

    def _marked_themselves(self, page: Page) -> Page:
        """The page without traces of which only an observation carries the score: the filter takes both for one."""
        ids = [trace.trace_id for trace in page.traces]
        marked = {one for chunk in _chunks_for_url(ids) for one in marked_among(self._client, chunk)}
        return replace(page, traces=[trace for trace in page.traces if trace.trace_id in marked])

    def _walk(
        self,
        from_us: int,
        to_us: int,
        fields: str,
        filters: Sequence[Filter],
        horizon_us: int | None = None,
        by_time: bool = False,
    ) -> Iterator[Page]:
        width_us = self._window_us_max or max(to_us - from_us, 1)
        horizon_us = to_us if horizon_us is None else min(horizon_us, to_us)
        window = _Window(from_us, to_us, to_us, horizon_us, width_us, by_time)
        window.open(from_us)
        while window.start_us < to_us:
            try:
                page = self._ask(window.start_us, window.end_us, window.page, fields, filters)
            except TooMuch:
                _shrink(window)
                continue
            if page.rows == 0:
                _end_window(window, page, self._window_us_max)
                continue
            yield page
            yield from self._advance(window, page, fields, filters)

    def _advance(self, window: _Window, page: Page, fields: str, filters: Sequence[Filter]) -> Iterator[Page]:
        """Move the window past a page; where the edge of the page could hide a row, read around it."""
        first_us, last_us = _edges(page)
        before_us, left = window.last_us, _rows_left(window, page)
        window.page += 1
        window.total_items = page.total_items
        window.last_us = last_us if last_us is not None else before_us
        if window.by_time and last_us is not None:
            yield from self._advance_by_time(window, page, fields, filters)
        elif left and before_us is not None:
            window.restart(before_us)
        elif first_us is not None and first_us == before_us:
            yield from self._read_instant(first_us, fields, filters)
            window.restart(first_us + MILLISECOND_US)

    def _advance_by_time(self, window: _Window, page: Page, fields: str, filters: Sequence[Filter]) -> Iterator[Page]:
        """Go on at the last timestamp; from a page of one timestamp to the next millisecond, once all of it is read."""
        first_us, last_us = _edges(page)
        assert last_us is not None
        if first_us != last_us:
            window.restart(last_us)
            return
        if page.rows >= PAGE_ROWS:
            yield from self._read_instant(last_us, fields, filters)
        window.restart(last_us + MILLISECOND_US)

    def _read_instant(self, at_us: int, fields: str, filters: Sequence[Filter]) -> Iterator[Page]:
        """Every trace of one millisecond, by id: equal timestamps swap places between calls. Until nothing is new."""
        seen: set[str] = set()
        known = -1
        while len(seen) > known:
            known, number = len(seen), 1
            while (page := self._ask(at_us, at_us + MILLISECOND_US, number, fields, filters, order="id.asc")).rows:
                seen.update(trace.trace_id for trace in page.traces)
                number += 1
                yield page
            if len(seen) >= page.total_items:
                return

    def _ask(
        self,
        from_us: int,
        to_us: int,
        page: int,
        fields: str,
        filters: Sequence[Filter],
        order: str = "timestamp.asc",
        rows: int | None = None,
    ) -> Page:
        query = [
            ("fromTimestamp", format_time(from_us)),
            ("toTimestamp", format_time(to_us)),
            ("fields", fields),
            ("orderBy", order),
            ("limit", str(rows or PAGE_ROWS)),
            ("page", str(page)),
        ]
        if filters:
            query.append(("filter", msgspec.json.encode(filters).decode()))
        return self._client.get("/api/public/traces", query, decode_page)


class IdStream:
    """Answers "is this trace among those?" from a list that is ordered like the traces that are asked about.

    Both lists are oldest first, so the answer needs only a moving slice of the other list, and no request at all
    until the first question. Memory is bounded by what lies within an hour.
    """

    def __init__(self, pages: Iterator[Page]) -> None:
        self._pages: Iterator[Page] | None = pages
        self._ids: dict[str, int] = {}
        self._read_up_to_us = -1

    def __contains__(self, trace: Trace) -> bool:
        while self._pages is not None and self._read_up_to_us <= trace.timestamp_us:
            self._read_page(trace.timestamp_us)
        return trace.trace_id in self._ids

    def _read_page(self, asked_us: int) -> None:
        assert self._pages is not None
        page = next(self._pages, None)
        if page is None:
            self._pages = None
            return
        self._ids = {trace_id: at_us for trace_id, at_us in self._ids.items() if at_us > asked_us - HOUR_US}
        self._ids.update((trace.trace_id, trace.timestamp_us) for trace in page.traces)
        self._read_up_to_us = max((trace.timestamp_us for trace in page.traces), default=self._read_up_to_us)


def _among(trace_ids: Sequence[str]) -> Filter:
    return {"type": "stringOptions", "column": "id", "operator": "any of", "value": list(trace_ids)}


def _edges(page: Page) -> tuple[int | None, int | None]:
    if not page.traces:
        return None, None
    return page.traces[0].timestamp_us, page.traces[-1].timestamp_us


def _shrink(window: _Window) -> None:
    """Halve what is left of a window that was too large to answer; go on from the last row read."""
    resume_us = window.last_us if window.last_us is not None else window.start_us
    end_us = min(window.end_us, window.horizon_us) if resume_us < window.horizon_us else window.end_us
    window.width_us = (end_us - resume_us) // 2
    if window.width_us < WINDOW_US_MIN:
        raise TooMuch(
            f"the server cannot answer even one minute of traces at {format_time(resume_us)}. "
            "Ask its operator for more memory or a longer query time-out, then run again."
        )
    window.open(resume_us)


def _rows_left(window: _Window, page: Page) -> bool:
    """Whether rows vanished since the last page, so that others may have moved to where was read already."""
    return window.total_items is not None and page.total_items < window.total_items


def _end_window(window: _Window, page: Page, width_us_max: int | None) -> None:
    """An empty page is the end of a window, unless the rest of it moved forward."""
    if _rows_left(window, page) and window.last_us is not None:
        window.restart(window.last_us)
    else:
        _next_window(window, width_us_max)


def _next_window(window: _Window, width_us_max: int | None) -> None:
    """Go to the next window; after a shrink, dare one twice as wide again."""
    window.width_us = min(window.width_us * 2, width_us_max or window.width_us * 2)
    window.open(window.end_us)


def _chunks_for_url(trace_ids: Sequence[str]) -> Iterator[list[str]]:
    """Ids in as few lists as fit a URL each."""
    chunk: list[str] = []
    size = 0
    for trace_id in trace_ids:
        bytes_asked = len(quote_plus(f'"{trace_id}",'))
        if chunk and size + bytes_asked > ASKED_IDS_BYTES_MAX:
            yield chunk
            chunk, size = [], 0
        chunk.append(trace_id)
        size += bytes_asked
    if chunk:
        yield chunk
