"""The metrics routes, as far as a billing client probes them (golden 01 and 12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tallymark.core.clock import parse_time
from tallymark.sandbox.wire import Response

from .answers import invalid_data, invalid_request, json_answer
from .calls import Call
from .issues import is_datetime, missing, wrong_type
from .parameters import Parameters
from .prices import total_cost
from .records import Observation, Trace
from .values import number, time_text


def daily(call: Call) -> Response:
    """GET /metrics/daily: per day and model."""
    given = Parameters(call.request.query)
    page, from_us, to_us = given.page(), given.time_us("fromTimestamp"), given.time_us("toTimestamp")
    given.refuse_if_wrong()
    days: dict[str, list[Trace]] = {}
    for trace in call.data.timeline.rows(*call.data.timeline.window(from_us, to_us)):
        days.setdefault(time_text(trace.timestamp_us)[:10], []).append(trace)
    rows = [_day(date, traces) for date, traces in sorted(days.items(), reverse=True)]
    return json_answer(200, {"data": rows[page.start : page.start + page.limit], "meta": page.meta(len(rows))})


def _day(date: str, traces: list[Trace]) -> dict[str, Any]:
    observations = [one for trace in traces for one in trace.children.observations]
    models = list(Counter(one.model for one in observations))
    return {
        "date": date,
        "countTraces": len(traces),
        "countObservations": len(observations),
        "totalCost": cost_of(observations),
        "usage": [_usage(model, [one for one in observations if one.model == model]) for model in models],
    }


def _usage(model: str | None, observations: list[Observation]) -> dict[str, Any]:
    usage: Counter[str] = Counter()
    for one in observations:
        usage.update(one.usage or {})
    return {
        "model": model,
        "inputUsage": usage["input"],
        "outputUsage": usage["output"],
        "totalUsage": usage["total"],
        "totalCost": cost_of(observations),
        "countObservations": len(observations),
        "countTraces": len({one.trace_id for one in observations}),
    }


def cost_of(observations: Iterable[Observation]) -> int | float:
    """USD of observations as a JSON number, added as decimals."""
    costs = (total_cost(one.cost_usd, one.model, one.usage) for one in observations)
    return number(float(sum(costs, Decimal(0))))


def metrics_v1(call: Call) -> Response:
    """GET /metrics: sums and counts over the traces of a time range; no dimensions here."""
    query = given_query(call)
    if query.get("dimensions") or query.get("view") != "traces":
        raise invalid_request("The sandbox answers metrics of the view traces without dimensions only.")
    window = (given_moment(query, "fromTimestamp"), given_moment(query, "toTimestamp"))
    traces = call.data.timeline.rows(*call.data.timeline.window(*window))
    row = {metric_name(metric): _measured(metric, traces) for metric in query.get("metrics", [])}
    return json_answer(200, {"data": [row]})


def given_moment(query: Mapping[str, Any], name: str) -> int | None:
    """A moment of the query in microseconds; None if it is none."""
    text = query.get(name)
    return parse_time(text) if isinstance(text, str) and is_datetime(text) else None


def metric_name(metric: Mapping[str, Any]) -> str:
    """The key of a metric in an answer's row."""
    return f"{metric.get('aggregation')}_{metric.get('measure')}"


def _measured(metric: Mapping[str, Any], traces: list[Trace]) -> int | float | None:
    if metric.get("measure") == "count":
        return len(traces)
    return cost_of([one for trace in traces for one in trace.children.observations]) if traces else None


def given_query(call: Call) -> dict[str, Any]:
    """The `query` parameter, an object in JSON. Raises Refusal with the server's 400."""
    text = Parameters(call.request.query).one("query")
    if text is None:
        raise invalid_data([missing(("query",), "string")])
    try:
        query = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise invalid_request("Invalid JSON in query parameter") from None
    if not isinstance(query, dict):
        raise invalid_data([wrong_type(("query",), "object", query)])
    return query
