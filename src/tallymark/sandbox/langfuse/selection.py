"""Which traces a list question finds, and the page of them that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .filters import predicate
from .parameters import TraceQuery
from .records import Trace
from .timeline import Timeline, with_ties_shuffled

_REMEMBERED_MAX = 4
# Only with these conditions does the server count row versions not merged yet (facts/langfuse-observed.md item 9).
_OVERCOUNTED = {"userId", "sessionId", "metadata"}


@dataclass(frozen=True, slots=True)
class Found:
    """One page of traces, and the total that `meta` tells."""

    rows: list[Trace]
    total_items: int


class Selections:
    """Remembers the last filtered lists until a write, so that their pages need not filter again."""

    def __init__(self) -> None:
        self._version = -1
        self._lists: dict[tuple[object, ...], list[Trace]] = {}

    def find(self, timeline: Timeline, version: int, query: TraceQuery, *, tie_seed: str | None) -> Found:
        """The page of a question. With `tie_seed`, ordered by time, equal timestamps come in an order made from it."""
        if not query.conditions and query.order_field == "timestamp_us" and tie_seed is None:
            return _page_of_window(timeline, query)
        rows = self._list(timeline, version, query)
        start, end = query.page.start, query.page.start + query.page.limit
        tied = tie_seed is not None and query.order_field == "timestamp_us"
        page = with_ties_shuffled(rows, start, end, str(tie_seed)) if tied else rows[start:end]
        return Found(page, len(rows))

    def _list(self, timeline: Timeline, version: int, query: TraceQuery) -> list[Trace]:
        if version != self._version or len(self._lists) >= _REMEMBERED_MAX:
            self._version, self._lists = version, {}
        if query.selection not in self._lists:
            self._lists[query.selection] = _selected(timeline, query)
        return self._lists[query.selection]


def _page_of_window(timeline: Timeline, query: TraceQuery) -> Found:
    first, last = timeline.window(query.from_us, query.to_us)
    start, limit = query.page.start, query.page.limit
    if query.descending:
        rows = timeline.rows(max(first, last - start - limit), max(first, last - start))[::-1]
    else:
        rows = timeline.rows(min(first + start, last), min(first + start + limit, last))
    return Found(rows, last - first)


def _selected(timeline: Timeline, query: TraceQuery) -> list[Trace]:
    rows = timeline.rows(*timeline.window(query.from_us, query.to_us))
    for condition in query.conditions:
        test = predicate(condition, query.scope)
        rows = [row for row in rows if test(row)]
    return _ordered(rows, query.order_field, descending=query.descending)


def _ordered(rows: list[Trace], field: str, *, descending: bool) -> list[Trace]:
    if field == "timestamp_us":
        return rows[::-1] if descending else rows
    absent = [row for row in rows if _order_value(row, field) is None]
    present = [row for row in rows if _order_value(row, field) is not None]
    return sorted(present, key=lambda row: _order_value(row, field), reverse=descending) + absent


def _order_value(row: Trace, field: str) -> Any:
    value = getattr(row, field)
    return value or "" if field == "name" else value


def unmerged_total(timeline: Timeline, query: TraceQuery, total_items: int) -> int:
    """The total as the server counts it before it merges row versions."""
    columns = {condition.column for condition in query.conditions}
    if query.from_us is not None or query.to_us is not None or not columns <= _OVERCOUNTED:
        return total_items
    return sum(row.writes for row in _selected(timeline, query))
