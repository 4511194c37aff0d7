"""Filling the sandbox without HTTP: one trace with its observations, in all tables that the generation has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from tallymark.core.clock import parse_time

from .records import NO_CONTEXT, Observation, TraceContext
from .rows import context_of, synthetic_row
from .state import Moment, ProjectData
from .store import Store

AttributesOn = Literal["every", "root"]


def put_trace(
    store: Store,
    data: ProjectData,
    trace: Mapping[str, Any],
    observations: Iterable[Mapping[str, Any]],
    attributes_on: AttributesOn,
) -> None:
    """Write a trace as `SandboxLangfuse.put_trace` says."""
    now_us = store.clock.now_us()
    # As if it had been sent when it happened: whatever is written from now on is newer.
    moment = Moment(parse_time(trace["timestamp"]) if "timestamp" in trace else now_us, now_us, now_us)
    row = data.write_trace(trace["id"], trace, moment)
    row.bookmarked = bool(trace.get("bookmarked"))
    written = [_put_observation(data, trace["id"], number, body, moment) for number, body in enumerate(observations)]
    if store.settings.generation == "legacy":
        return
    context = context_of(row)
    for observation in written:
        observation.context = _context(observation, context, attributes_on)
        store.publish(data, observation)
    if not row.children.rows:
        store.publish(data, synthetic_row(row, context))


def _put_observation(
    data: ProjectData, trace_id: str, number: int, body: Mapping[str, Any], moment: Moment
) -> Observation:
    observation_id = body.get("id") or f"{trace_id}-{number}"
    return data.write_observation(observation_id, body.get("type", "GENERATION"), {**body, "traceId": trace_id}, moment)


def _context(observation: Observation, context: TraceContext, attributes_on: AttributesOn) -> TraceContext:
    return context if attributes_on == "every" or observation.parent_id is None else NO_CONTEXT
