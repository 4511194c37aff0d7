"""The question to GET /v2/observations: its parameters, checked, and the rows it finds."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import msgspec

from tallymark.core.clock import parse_time

from .answers import invalid_request, too_much
from .filters import Condition, parse_filter, predicate
from .ordered import Ordered
from .parameters import Pairs, Parameters
from .records import Observation, Scope
from .row_filters import ROW_COLUMNS
from .rows import Position, position, tie
from .state import ProjectData
from .values import encode, time_text

LIMIT_MAX = 1000
GROUPS = ("core", "basic", "time", "io", "metadata", "model", "usage", "prompt", "metrics", "trace_context")
DEFAULT_GROUPS = frozenset({"core", "basic"})
_EXACT = ("traceId", "userId", "sessionId", "type", "name", "level", "parentObservationId", "version")
_NO_SCOPE = Scope()


class Cursor(msgspec.Struct, rename="camel", frozen=True):
    """The last row of a page, as the client sends it back."""

    last_start_time_to: str
    last_trace_id: str
    last_id: str


@dataclass(frozen=True, slots=True)
class RowQuery:
    """A checked question. Times are microseconds; the window is closed below and open above.

    `before` is the position of the row before this page; `expanded` the metadata keys that are given in full.
    """

    limit: int
    groups: frozenset[str]
    expanded: frozenset[str]
    from_us: int | None
    to_us: int | None
    before: Position | None
    conditions: tuple[Condition, ...]


def row_query(pairs: Pairs) -> RowQuery:
    """Check the parameters of GET /v2/observations. Raises Refusal with the server's 400."""
    given = Parameters(pairs)
    limit = given.limit(minimum=0, maximum=LIMIT_MAX)
    from_us, to_us = given.time_us("fromStartTime"), given.time_us("toStartTime")
    filters = [one for text in given.all("filter")[:1] for one in parse_filter(text, ROW_COLUMNS, key_must_exist=True)]
    plain = _plain_conditions(given)
    cursor, expanded = given.one("cursor"), frozenset(given.items("expandMetadata"))
    as_json = given.one("parseIoAsJson")
    given.refuse_if_wrong()
    if as_json == "true":
        raise invalid_request("parseIoAsJson is not supported by this endpoint")
    # A filter on a column replaces the plain parameter of that column, as in the trace list.
    replaced = {name for condition in filters for name in ROW_COLUMNS[condition.column].replaces}
    if "fromStartTime" in replaced:
        from_us, to_us = None, None
    conditions = [*(one for one in plain if one.column not in replaced), *filters]
    before = None if cursor is None else _read_cursor(cursor)
    return RowQuery(limit, _groups(given), expanded, from_us, to_us, before, tuple(conditions))


def _plain_conditions(given: Parameters) -> list[Condition]:
    conditions = [Condition("string", name, "=", text, None) for name in _EXACT if (text := given.one(name))]
    if environments := tuple(text for text in given.items("environment") if text):
        conditions.append(Condition("stringOptions", "environment", "any of", environments, None))
    if flag := given.one("isRootObservation"):
        conditions.append(Condition("boolean", "isRootObservation", "=", flag == "true", None))
    return conditions


def _groups(given: Parameters) -> frozenset[str]:
    """The groups asked for: unknown names are dropped, and core is always there (golden 32)."""
    names = frozenset(text for text in given.items("fields") if text)
    return (names & frozenset(GROUPS)) | {"core"} if names else DEFAULT_GROUPS


def _read_cursor(text: str) -> Position:
    try:
        cursor = msgspec.json.decode(base64.b64decode(text), type=Cursor)
        return parse_time(cursor.last_start_time_to), tie(cursor.last_trace_id), cursor.last_id
    except (ValueError, msgspec.MsgspecError):
        raise invalid_request("Invalid cursor format") from None


def cursor_after(row: Observation) -> str:
    """The cursor that a page ends with whose last row this is."""
    cursor = Cursor(time_text(row.start_us), row.trace_id, row.id)
    return base64.b64encode(encode(cursor)).decode()


def find_rows(data: ProjectData, query: RowQuery, rows_max: int | None = None) -> list[Observation]:
    """The page of a question, highest position first. A row with two versions stands there twice.

    Raises Refusal with the server's 422 if more than rows_max rows have to be looked at.
    """
    rows = _rows_to_look_at(data, query)
    first, last = _window(rows, query)
    if rows_max is not None and last - first > rows_max:
        raise too_much()
    tests = [predicate(condition, _NO_SCOPE, ROW_COLUMNS) for condition in query.conditions]
    if not tests:
        return rows.records()[max(first, last - query.limit) : last][::-1]
    downwards = map(rows.records().__getitem__, range(last - 1, first - 1, -1))
    return list(islice((row for row in downwards if all(test(row) for test in tests)), query.limit))


def _rows_to_look_at(data: ProjectData, query: RowQuery) -> Ordered[Observation]:
    """All rows; those of a few traces when the question names them."""
    trace_ids = next((named for one in query.conditions if (named := _named_traces(one)) is not None), None)
    if trace_ids is None:
        return data.rows
    rows: Ordered[Observation] = Ordered(position)
    for trace_id in trace_ids:
        for row in data.children(trace_id).rows:
            rows.add(row)
    return rows


def _named_traces(condition: Condition) -> Iterable[str] | None:
    if condition.column != "traceId" or condition.operator not in ("=", "any of"):
        return None
    return [condition.value] if condition.type == "string" else sorted(set(condition.value))


def _window(rows: Ordered[Observation], query: RowQuery) -> tuple[int, int]:
    """The positions of the first row of the window and of the one after its last."""
    first = 0 if query.from_us is None else rows.position((query.from_us,))
    ends = [rows.position(end) for end in (_end(query.to_us), query.before) if end is not None]
    return first, max(first, min(ends, default=len(rows.records())))


def _end(to_us: int | None) -> tuple[int] | None:
    return None if to_us is None else (to_us,)
