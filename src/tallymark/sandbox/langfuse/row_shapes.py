"""The JSON rows of GET /v2/observations, group by group, key by key as recorded (golden v4.16.0-events-only 30, 32).

What is unset is "" here, not null; a group that was not asked for leaves no key, but for the model's id and prices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from .prices import cost_details, price_of
from .records import NO_CONTEXT, Observation, TraceContext, seconds
from .row_filters import context
from .rows import is_root
from .values import as_javascript, number, parse_text, stored_text, time_text

# The table that is read holds no more of a metadata value (facts/langfuse.md section 2.2).
METADATA_VALUE_LENGTH_MAX = 200

_NO_MODEL = {"modelId": None, "inputPrice": None, "outputPrice": None, "totalPrice": None}
_NO_PROMPT = {"promptId": "", "promptName": "", "promptVersion": None}

Group = Callable[[Observation], Mapping[str, Any]]


def json_rows(
    rows: Iterable[Observation], project_id: str, groups: frozenset[str], expanded: frozenset[str]
) -> list[dict[str, Any]]:
    """The rows of an answer. `expanded`: metadata keys that are given in full."""
    parts: list[Group] = [part for name, part in _GROUPS.items() if name in groups]
    if "metadata" in groups:
        parts.append(lambda row: {"metadata": _metadata(row, expanded)})
    return [_json_row(row, project_id, parts) for row in rows]


def all_groups(rows: Iterable[Observation], project_id: str) -> list[dict[str, Any]]:
    """The rows with every group."""
    return json_rows(rows, project_id, frozenset({*_GROUPS, "metadata"}), frozenset())


def _json_row(row: Observation, project_id: str, parts: list[Group]) -> dict[str, Any]:
    shown = _core(row, project_id)
    for part in parts:
        shown.update(part(row))
    return shown


def _core(row: Observation, project_id: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "traceId": row.trace_id,
        "startTime": time_text(row.start_us),
        "endTime": _time(row.end_us),
        "projectId": project_id,
        "parentObservationId": row.parent_id,
        "type": row.type,
        "latency": _seconds(row.start_us, row.end_us),
        "timeToFirstToken": _seconds(row.start_us, row.completion_start_us),
        **_NO_MODEL,
    }


def _time(moment_us: int | None) -> str | None:
    return None if moment_us is None else time_text(moment_us)


def _seconds(from_us: int, to_us: int | None) -> int | float | None:
    return None if to_us is None else seconds(from_us, to_us)


def _basic(row: Observation) -> dict[str, Any]:
    of_trace = row.context or NO_CONTEXT
    return {
        "name": row.name or "",
        "level": row.level,
        "statusMessage": row.status_message or "",
        "version": row.version or "",
        "environment": row.environment,
        "userId": of_trace.user_id or "",
        "sessionId": of_trace.session_id or "",
        "isRootObservation": is_root(row),
        "bookmarked": False,
        "public": of_trace.public,
    }


def _times(row: Observation) -> dict[str, Any]:
    return {
        "completionStartTime": _time(row.completion_start_us),
        "createdAt": time_text(row.created_us),
        "updatedAt": time_text(row.updated_us),
    }


def _io(row: Observation) -> dict[str, Any]:
    return {"input": _text_of(row.input), "output": _text_of(row.output)}


def _text_of(encoded: bytes | None) -> str | None:
    """Input or output as text: never parsed here."""
    if encoded is None:
        return None
    text = encoded.decode()
    value = parse_text(text)
    return value if isinstance(value, str) else text


def _metadata(row: Observation, expanded: frozenset[str]) -> dict[str, Any]:
    of_trace = _metadata_of_trace(context(row), expanded)
    return {**of_trace, **_shown(row.metadata, expanded)} if row.metadata else of_trace


@lru_cache(maxsize=1_024)
def _metadata_of_trace(of_trace: TraceContext, expanded: frozenset[str]) -> dict[str, Any]:
    """The same for all rows of a trace, which often stand side by side."""
    return _shown(of_trace.metadata, expanded)


def _shown(metadata: Mapping[str, Any], expanded: frozenset[str]) -> dict[str, Any]:
    return {key: _metadata_value(value, whole=key in expanded) for key, value in metadata.items()}


def _metadata_value(value: Any, *, whole: bool) -> Any:
    text = value if isinstance(value, str) else stored_text(value)
    return parse_text(text if whole else text[:METADATA_VALUE_LENGTH_MAX])


def _model(row: Observation) -> dict[str, Any]:
    price = price_of(row.model)
    named = {
        "model": row.model or "",
        "internalModelId": price.model_id if price else "",
        "modelParameters": as_javascript(row.model_parameters or {}),
    }
    if price is None:
        return named
    prices = {f"{kind}Price": f"{usd:f}" for kind, usd in price.usd_per_unit.items()}
    return {**named, "modelId": price.model_id, **prices}


def _usage(row: Observation) -> dict[str, Any]:
    usage, costs = row.usage or {}, _costs(row)
    units_in, units_out = _units(usage)
    price = price_of(row.model) if usage else None
    return {
        "usageDetails": usage,
        "inputUsage": units_in,
        "outputUsage": units_out,
        "totalUsage": usage.get("total", 0),
        "costDetails": costs,
        "inputCost": costs.get("input"),
        "outputCost": costs.get("output"),
        # An unknown cost reads 0, not null (facts/langfuse.md section 2.2).
        "totalCost": costs.get("total", 0),
        "usagePricingTierId": price.tier_id if price else None,
        "usagePricingTierName": price.tier_name if price else None,
    }


def _units(usage: Mapping[str, int]) -> tuple[int, int]:
    """Tokens in and out: every key that starts so counts (facts/langfuse.md section 10.3). One pass, for speed."""
    units_in = units_out = 0
    for key, units in usage.items():
        if key.startswith("input"):
            units_in += units
        elif key.startswith("output"):
            units_out += units
    return units_in, units_out


def _costs(row: Observation) -> dict[str, int | float]:
    return {key: _usd(cost) for key, cost in cost_details(row.cost_usd, row.model, row.usage).items()}


def _usd(amount: Decimal) -> int | float:
    return number(float(amount))


def _prompt(_: Observation) -> Mapping[str, Any]:
    return _NO_PROMPT


def _trace_context(row: Observation) -> dict[str, Any]:
    of_trace = context(row)
    return {"traceName": of_trace.name or None, "release": of_trace.release or "", "tags": of_trace.tags}


_GROUPS: dict[str, Group] = {
    "basic": _basic,
    "time": _times,
    "io": _io,
    "model": _model,
    "usage": _usage,
    "prompt": _prompt,
    "trace_context": _trace_context,
}
