"""The columns that the `filter` parameter of v2/observations knows (facts/langfuse.md section 2.2).

They are a row's own: tags are those the span was sent with, not its trace's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .filters import Column
from .prices import cost_details
from .records import NO_CONTEXT, Observation, TraceContext, seconds
from .rows import is_root

_NUMBER = ("number",)
_DATETIME = ("datetime",)
_STRING = ("string", "stringOptions")


def context(row: Observation) -> TraceContext:
    """What a row says about its trace."""
    return row.context or NO_CONTEXT


def metadata(row: Observation) -> Mapping[str, Any]:
    """The metadata of a row: its own, and that of its trace which it was sent with."""
    of_trace = context(row).metadata
    return {**of_trace, **row.metadata} if of_trace and row.metadata else of_trace or row.metadata


def trace_name(row: Observation) -> str | None:
    """What traceName says (golden v4.16.0-events-only 30: a root without the attribute gives its own name)."""
    return context(row).name or None


def _column(types: tuple[str, ...], read: Callable[[Observation], Any], *replaces: str) -> Column:
    return Column(types, lambda row, _: read(row), replaces)


def _text(read: Callable[[Observation], str | None], *replaces: str) -> Column:
    # No text of the v4 tables is null: what is unset is "" (facts/langfuse.md section 10.3).
    return _column(_STRING, lambda row: read(row) or "", *replaces)


def _cost(kind: str) -> Column:
    return _column(_NUMBER, lambda row: float(cost_details(row.cost_usd, row.model, row.usage).get(kind, 0)))


def _tokens(kind: str) -> Column:
    return _column(_NUMBER, lambda row: (row.usage or {}).get(kind, 0))


def _latency(row: Observation) -> int | float:
    return 0 if row.end_us is None else seconds(row.start_us, row.end_us)


_TAGS = _column(("arrayOptions",), lambda row: context(row).tags)
ROW_COLUMNS = {
    "id": _text(lambda row: row.id),
    "traceId": _text(lambda row: row.trace_id, "traceId"),
    "parentObservationId": _text(lambda row: row.parent_id, "parentObservationId"),
    "type": _text(lambda row: row.type, "type"),
    "name": _text(lambda row: row.name, "name"),
    "level": _text(lambda row: row.level, "level"),
    "statusMessage": _text(lambda row: row.status_message),
    "environment": _text(lambda row: row.environment, "environment"),
    "version": _text(lambda row: row.version, "version"),
    "release": _text(lambda row: context(row).release),
    "userId": _text(lambda row: context(row).user_id, "userId"),
    "sessionId": _text(lambda row: context(row).session_id, "sessionId"),
    "traceName": _text(trace_name),
    "model": _text(lambda row: row.model),
    "startTime": _column(_DATETIME, lambda row: row.start_us, "fromStartTime", "toStartTime"),
    "endTime": _column(_DATETIME, lambda row: row.end_us or 0),
    "tags": _TAGS,
    "traceTags": _TAGS,
    "metadata": _column(("stringObject",), metadata),
    "isRootObservation": _column(("boolean",), is_root, "isRootObservation"),
    "hasParentObservation": _column(("boolean",), lambda row: row.parent_id is not None),
    "latency": _column(_NUMBER, _latency),
    "totalCost": _cost("total"),
    "inputCost": _cost("input"),
    "outputCost": _cost("output"),
    "totalTokens": _tokens("total"),
    "inputTokens": _tokens("input"),
    "outputTokens": _tokens("output"),
}
