"""GET /v2/metrics as far as it was recorded: cost or count of observations, over one dimension or none (golden 30).

Every version of a row counts, also those that ClickHouse has not merged yet (facts/langfuse.md section 2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tallymark.sandbox.wire import Response

from .answers import invalid_data, invalid_request, json_answer
from .calls import Call
from .generations import only_in_version_4
from .issues import invalid_option
from .metrics import cost_of, given_moment, given_query, metric_name
from .records import Observation
from .row_filters import context

_VIEWS = ["observations", "scores-numeric", "scores-categorical", "scores-boolean"]
_ROW_LIMIT_DEFAULT = 100
_DIMENSIONS: dict[str, Callable[[Observation], str | None]] = {
    "traceId": lambda row: row.trace_id,
    "userId": lambda row: context(row).user_id or None,
    "sessionId": lambda row: context(row).session_id or None,
    "name": lambda row: row.name or None,
    "type": lambda row: row.type,
    "environment": lambda row: row.environment,
}
# Only as the first of so many (facts/langfuse.md section 2.3).
_MANY_VALUES = {"traceId", "userId", "sessionId"}
_MEASURES: dict[str, Callable[[list[Observation]], int | float]] = {"totalCost": cost_of, "count": len}


def metrics_v2(call: Call) -> Response:
    """Check the query, and answer it where there are v4 tables (facts/langfuse-observed.md item 28)."""
    query = given_query(call)
    if query.get("view") not in _VIEWS:
        raise invalid_data([invalid_option(("query", "view"), _VIEWS)])
    if call.store.settings.generation == "legacy":
        raise only_in_version_4("metrics")
    dimensions, metrics = _dimensions(query), _metrics(query)
    rows = [
        _json_row(dimensions, values, metrics, group)
        for values, group in _grouped(_rows(call, query), dimensions).items()
    ]
    return json_answer(200, {"data": _first_rows(query, rows)})


def _dimensions(query: Mapping[str, Any]) -> list[str]:
    names = [one.get("field") for one in query.get("dimensions") or []]
    if not set(names) <= _DIMENSIONS.keys() or query.get("filters") or query.get("view") != "observations":
        raise invalid_request("The sandbox answers the view observations by a few dimensions and without filters only.")
    ordered = bool(query.get("orderBy")) and query["orderBy"][0].get("direction") == "desc"
    if _MANY_VALUES & set(names) and not ("row_limit" in (query.get("config") or {}) and ordered):
        raise invalid_request(
            f"High cardinality dimensions {sorted(_MANY_VALUES & set(names))} require config.row_limit "
            "and orderBy on a measure with direction desc."
        )
    return names


def _metrics(query: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    metrics: list[Mapping[str, Any]] = query.get("metrics") or []
    if not {one.get("measure") for one in metrics} <= _MEASURES.keys():
        raise invalid_request("The sandbox answers the measures totalCost and count only.")
    return metrics


def _rows(call: Call, query: Mapping[str, Any]) -> list[Observation]:
    from_us, to_us = given_moment(query, "fromTimestamp"), given_moment(query, "toTimestamp")
    rows = call.data.rows
    first = 0 if from_us is None else rows.position((from_us,))
    last = len(rows.records()) if to_us is None else rows.position((to_us,))
    return rows.records()[first:last]


def _grouped(rows: list[Observation], dimensions: list[str]) -> dict[tuple[str | None, ...], list[Observation]]:
    groups: dict[tuple[str | None, ...], list[Observation]] = {}
    for row in rows:
        groups.setdefault(tuple(_DIMENSIONS[name](row) for name in dimensions), []).append(row)
    return groups


def _json_row(
    dimensions: list[str],
    values: tuple[str | None, ...],
    metrics: list[Mapping[str, Any]],
    group: list[Observation],
) -> dict[str, Any]:
    measured = {metric_name(metric): _MEASURES[metric["measure"]](group) for metric in metrics}
    return {**dict(zip(dimensions, values, strict=True)), **measured}


def _first_rows(query: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    order = (query.get("orderBy") or [{}])[0]
    ranked = sorted(rows, key=lambda row: row.get(order.get("field")) or 0, reverse=order.get("direction") == "desc")
    return ranked[: (query.get("config") or {}).get("row_limit", _ROW_LIMIT_DEFAULT)]
