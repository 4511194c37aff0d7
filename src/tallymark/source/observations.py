"""The observations generation: GET /v2/observations by cursor, 1,000 a page, grouped by trace. Never the group `io`.

Facts: facts/langfuse.md sections 2.2 and 12, facts/langfuse-observed.md items 25-27. A window is read from its newest
observation to its oldest, so a trace's root comes last; pages are stored as they come and decided when the window ends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from ..core.clock import DAY_US, format_time, from_datetime
from ..core.credits import EXACT
from ..core.readings import Reading, merge
from ..core.types import Unit
from ..errors import TooMuch
from ..remote.langfuse import LangfuseClient
from .cursors import Cursors, Progress
from .rows import BAD_ROW, PENDING_TAG, PROCESSED_TAG, Metadata, Name, attributes_of, marked_by
from .windows import Windows

PAGE_ROWS = 1000
FIELDS = "core,basic,time,metadata,model,usage,trace_context"
WINDOW_US = 2 * DAY_US
# Ids of one request: a hundred of 32 hex digits stay well below the length that servers take in a URL.
IDS_MAX = 100
# More than any model will use, and less than what a ledger's column holds.
TOKENS_MAX = 10**15
EXPANDED = ",".join(Metadata.__struct_fields__)


class ObservationRow(msgspec.Struct):
    """One row of GET /v2/observations; unset strings come as ''."""

    id: Name
    traceId: Name  # noqa: N815 - Langfuse's own names
    projectId: Name  # noqa: N815
    startTime: datetime  # noqa: N815
    endTime: datetime | None = None  # noqa: N815
    parentObservationId: str | None = None  # noqa: N815
    isRootObservation: bool = False  # noqa: N815
    traceName: str | None = None  # noqa: N815
    version: str | None = None
    release: str | None = None
    environment: str | None = None
    bookmarked: bool = False
    public: bool = False
    userId: str | None = None  # noqa: N815
    sessionId: str | None = None  # noqa: N815
    updatedAt: datetime | None = None  # noqa: N815
    model: str | None = None
    usageDetails: dict[str, Decimal | None] | None = None  # noqa: N815
    costDetails: dict[str, Decimal | None] | None = None  # noqa: N815
    tags: list[str] | None = None
    metadata: Metadata | str | list[Any] | int | float | bool | None = None


class _Meta(msgspec.Struct):
    cursor: str | None = None


class _Page(msgspec.Struct):
    data: list[ObservationRow]
    meta: _Meta


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]
    meta: _Meta


class _Identity(msgspec.Struct):
    id: Name
    traceId: Name  # noqa: N815
    projectId: Name  # noqa: N815
    startTime: datetime  # noqa: N815


class ObservationPage(msgspec.Struct, tag=True):
    """One page, grouped by trace. `unreadable` says what is wrong with rows that have no identity."""

    readings: list[Reading]
    rows: int
    cursor: str | None
    unreadable: list[str]


class WindowEnd(msgspec.Struct, tag=True):
    """Comes after the pages of a window: read up to `end_us`, or, if None, to be read again in smaller parts."""

    end_us: int | None


_decode_page = msgspec.json.Decoder(_Page).decode
_decode_raw_page = msgspec.json.Decoder(_RawPage).decode
_decode_row = msgspec.json.Decoder(ObservationRow).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode


Ahead = Callable[[Iterator[bytes]], Iterator[bytes]]


class _Count(msgspec.Struct):
    count_count: int | str = 0


class _Counted(msgspec.Struct):
    data: list[_Count]


_decode_counted = msgspec.json.Decoder(_Counted).decode


class ObservationsSource:
    """Reads the observations of one project from a Langfuse server of v4."""

    generation = "observations"

    def __init__(self, client: LangfuseClient, window_us_max: int | None = None, ahead: Ahead = iter) -> None:
        """`ahead` may take answers from the server in a thread while the last one is decoded."""
        self._client = client
        self._window_us = window_us_max or WINDOW_US
        self._ahead = ahead

    def count(self, from_us: int, to_us: int) -> int:
        """How many observations the server counts in a range, versions of one included (facts/langfuse.md section 2.3).

        Asked once, since Langfuse Cloud's plans allow few such questions a day.
        """
        asked = {
            "view": "observations",
            "metrics": [{"measure": "count", "aggregation": "count"}],
            "dimensions": [],
            "filters": [],
            "fromTimestamp": format_time(from_us),
            "toTimestamp": format_time(to_us),
        }
        query = [("query", msgspec.json.encode(asked).decode())]
        counted = self._client.get("/api/public/v2/metrics", query, _decode_counted)
        return int(counted.data[0].count_count) if counted.data else 0

    def windows(self, from_us: int, to_us: int) -> Windows:
        """Cut a range into the windows that are read and decided one after the other, the oldest first."""
        return Windows(from_us, to_us, self._window_us)

    def read(self, windows: Windows) -> Iterator[ObservationPage | WindowEnd]:
        """Pages of the observations that start in each window, the newest first, and the end of each window.

        Raises TooMuch if the server cannot answer the smallest window.
        """
        for start_us, end_us in windows:
            query = [("fromStartTime", format_time(start_us)), ("toStartTime", format_time(end_us))]
            try:
                yield from self._walk(query, [])
            except TooMuch:
                windows.shrink()
                yield WindowEnd(None)
            else:
                yield WindowEnd(end_us)

    def read_traces(self, trace_ids: Sequence[str]) -> Iterator[ObservationPage]:
        """Pages of every observation of some traces, whenever it started. Raises TooMuch if one alone is too large."""
        for at in range(0, len(trace_ids), IDS_MAX):
            yield from self._read_ids(list(trace_ids[at : at + IDS_MAX]))

    def _read_ids(self, ids: list[str]) -> Iterator[ObservationPage]:
        """One request for all; where that is too much, half of them and then the rest."""
        try:
            yield from self._walk(
                [], [{"type": "stringOptions", "column": "traceId", "operator": "any of", "value": ids}]
            )
        except TooMuch as error:
            if len(ids) == 1:
                raise TooMuch(
                    f"the server cannot answer all observations of the trace {ids[0]!r}. "
                    "Ask its operator for more memory or a longer query time-out, then run again."
                ) from error
            middle = len(ids) // 2
            yield from self._read_ids(ids[:middle])
            yield from self._read_ids(ids[middle:])

    def _walk(self, query: list[tuple[str, str]], filters: list[dict[str, object]]) -> Iterator[ObservationPage]:
        asked = [*query, ("fields", FIELDS), ("expandMetadata", EXPANDED), ("limit", str(PAGE_ROWS))]
        if filters:
            asked.append(("filter", msgspec.json.encode(filters).decode()))
        progress = Progress(self._client.base_url, "observations")
        for body in self._ahead(self._answers(asked)):
            page = decode_page(body)
            if page.readings:
                progress.follow(min(reading.timestamp_us for reading in page.readings), _rows_of(page))
            yield page

    def _answers(self, asked: Sequence[tuple[str, str]]) -> Iterator[bytes]:
        """Answers with rows, as the server sent them; of each only the cursor is read."""
        cursor: str | None = None
        cursors = Cursors(self._client.base_url, "observations")
        while True:
            more = [("cursor", cursor)] if cursor else []
            body, page = self._client.get("/api/public/v2/observations", [*asked, *more], _with_cursor)
            if page.data:
                yield body
            if page.meta.cursor is None or not page.data:
                return
            cursor = cursors.follow(page.meta.cursor)


def _with_cursor(body: bytes) -> tuple[bytes, _RawPage]:
    """An answer and its rows undecoded. Raises msgspec.MsgspecError if it is no page at all."""
    return body, _decode_raw_page(body)


def _rows_of(page: ObservationPage) -> Iterator[Hashable]:
    """What tells the rows of a page apart: trace, observation and start; a synthetic row has no observation."""
    for reading in page.readings:
        if reading.dated_by_trace:
            yield reading.trace_id, None, reading.timestamp_us
        for unit in reading.units:
            yield reading.trace_id, unit.unit_id, unit.start_us


def decode_page(body: bytes) -> ObservationPage:
    """Decode a page. One bad row never spoils the others: it becomes a unit with a problem.

    Raises msgspec.MsgspecError if the body is no page at all.
    """
    try:
        page = _decode_page(body)
        return ObservationPage(group(map(to_reading, page.data)), len(page.data), page.meta.cursor, [])
    except BAD_ROW:
        return _decode_row_by_row(body)


def _decode_row_by_row(body: bytes) -> ObservationPage:
    page = _decode_raw_page(body)
    readings: list[Reading] = []
    unreadable: list[str] = []
    for raw in page.data:
        try:
            readings.append(to_reading(_decode_row(raw)))
        except BAD_ROW as error:
            _keep_bad_row(raw, str(error), readings, unreadable)
    return ObservationPage(group(iter(readings)), len(page.data), page.meta.cursor, unreadable)


def _keep_bad_row(raw: msgspec.Raw, problem: str, readings: list[Reading], unreadable: list[str]) -> None:
    try:
        row = _decode_identity(raw)
        start_us = from_datetime(row.startTime)
        unit = Unit(row.id, None, None, start_us=start_us, problem=f"the row is not as Langfuse sends it: {problem}")
        readings.append(Reading(row.projectId, row.traceId, start_us, (unit,)))
    except BAD_ROW:
        unreadable.append(problem)


def group(readings: Iterator[Reading]) -> list[Reading]:
    """One reading for each trace, in the order in which the traces were met."""
    found: dict[tuple[str, str], Reading] = {}
    for reading in readings:
        key = reading.project_id, reading.trace_id
        found[key] = merge(found[key], reading) if key in found else reading
    return list(found.values())


def to_reading(row: ObservationRow) -> Reading:
    """What one observation says of its trace. The synthetic row `t-<trace id>` is no usage (facts/langfuse.md 2.2)."""
    attributes = attributes_of(row.metadata) if isinstance(row.metadata, Metadata) else {}
    tags = row.tags or []
    synthetic = row.id == f"t-{row.traceId}"
    start_us = _milliseconds(row.startTime)
    return Reading(
        row.projectId,
        row.traceId,
        start_us,
        () if synthetic else (_unit_of(row, start_us),),
        # A root whose parent lies in another service has a parent, and is called the root all the same.
        root_seen=synthetic or row.isRootObservation or not row.parentObservationId,
        dated_by_trace=synthetic,
        name=row.traceName or None,
        user_id=row.userId or None,
        session_id=row.sessionId or None,
        release=row.release or None,
        version=row.version or None,
        environment=row.environment or "default",
        public=row.public,
        bookmarked=row.bookmarked,
        tags=tuple(sorted({PENDING_TAG, PROCESSED_TAG}.intersection(tags))) if tags else (),
        attributes=attributes,
        marked=marked_by(tags, attributes),
    )


def _unit_of(row: ObservationRow, start_us: int) -> Unit:
    usage, costs = row.usageDetails or {}, row.costDetails or {}
    end_us = _milliseconds(row.endTime) if row.endTime is not None else None
    return Unit(
        row.id,
        cost_of(costs),
        None,
        tokens=tokens_of(usage),
        model=row.model or None,
        start_us=start_us,
        end_us=end_us,
        updated_us=from_datetime(row.updatedAt) if row.updatedAt is not None else 0,
    )


def cost_of(costs: dict[str, Decimal | None]) -> Decimal | None:
    """The cost of an observation: `total`, else the sum of the parts, else unknown (facts/langfuse.md section 12)."""
    if costs.get("total") is not None:
        return costs["total"]
    parts = [cost for cost in costs.values() if cost is not None]
    total = Decimal(0)
    for part in parts:
        total = EXACT.add(total, part)
    return total if parts else None


def tokens_of(usage: dict[str, Decimal | None]) -> int:
    """The tokens of an observation: `total`, else the sum of the parts. Raises ValueError if that cannot be true."""
    total = usage.get("total")
    if total is None:
        total = sum((part for part in usage.values() if part is not None), Decimal(0))
    if not abs(total) <= TOKENS_MAX:
        raise ValueError(f"the token count is {total:.6g}, which is too large to be true")
    return int(total)


def _milliseconds(moment: datetime) -> int:
    """Whole milliseconds, as the legacy generation keeps times: both generations must give the same durations."""
    at_us = from_datetime(moment)
    return at_us - at_us % 1000
