"""The legacy reads: traces, observations, sessions, projects, health."""

from __future__ import annotations

from collections.abc import Callable

from tallymark.sandbox.wire import Response

from .answers import json_answer, not_found, too_much
from .calls import Call
from .generations import is_version_4
from .parameters import Parameters, TraceQuery, read_groups, trace_query
from .records import Observation
from .selection import Found, unmerged_total
from .shapes import listed_trace, observation_row, session_trace, trace_detail
from .values import time_text

ORGANIZATION = {"id": "org-golden", "name": "Golden Org"}


def list_traces(call: Call) -> Response:
    """GET /traces."""
    settings = call.store.settings
    query = trace_query(
        call.request.query,
        default_groups=settings.default_fields,
        reject_no_date_range=settings.reject_no_date_range,
        key_must_exist=is_version_4(settings.version),
    )
    found = _find(call, query)
    rows = [listed_trace(row, call.project_id, query.groups, query.scope) for row in found.rows]
    return json_answer(200, {"data": rows, "meta": query.page.meta(found.total_items)})


def _find(call: Call, query: TraceQuery) -> Found:
    store, data = call.store, call.data
    first, last = data.timeline.window(query.from_us, query.to_us)
    if store.settings.resource_error_rows is not None and last - first > store.settings.resource_error_rows:
        raise too_much()
    store.lists_answered += 1
    found = data.selections.find(data.timeline, data.version, query, tie_seed=_tie_seed(call))
    if not store.settings.overcount_total_items:
        return found
    return Found(found.rows, unmerged_total(data.timeline, query, found.total_items))


def _tie_seed(call: Call) -> str | None:
    seed = call.store.settings.unstable_ties_seed
    return None if seed is None else f"{seed} {call.store.lists_answered}"


def get_trace(call: Call) -> Response:
    """GET /traces/{id}."""
    trace = call.data.traces.get(call.path_id)
    if trace is None:
        raise not_found(f"Trace {call.path_id} not found within authorized project")
    groups = read_groups([text for name, text in call.request.query if name == "fields"])
    return json_answer(200, trace_detail(trace, call.project_id, groups))


_OBSERVATION_FILTERS: dict[str, Callable[[Observation], str | None]] = {
    "traceId": lambda one: one.trace_id,
    "type": lambda one: one.type,
    "name": lambda one: one.name,
    "level": lambda one: one.level,
    "parentObservationId": lambda one: one.parent_id,
    "version": lambda one: one.version,
    "environment": lambda one: one.environment,
}


def list_observations(call: Call) -> Response:
    """GET /observations, newest first (facts/langfuse.md section 2.1)."""
    given = Parameters(call.request.query)
    page = given.page()
    rows = _observations(call, given)
    given.refuse_if_wrong()
    rows.sort(key=lambda one: one.start_us, reverse=True)
    shown = rows[page.start : page.start + page.limit]
    data = [observation_row(one, call.project_id, missing_price=None) for one in shown]
    for row in data:
        # The list does not look up the pricing tier (golden 01).
        row.usage_pricing_tier_id = row.usage_pricing_tier_name = None
    return json_answer(200, {"data": data, "meta": page.meta(len(rows))})


def _observations(call: Call, given: Parameters) -> list[Observation]:
    wanted = {name: text for name in _OBSERVATION_FILTERS if (text := given.one(name))}
    from_us, to_us = given.time_us("fromStartTime"), given.time_us("toStartTime")
    trace_id, user_id = wanted.get("traceId"), given.one("userId")
    pool = call.data.children(trace_id).observations if trace_id else call.data.observations.values()
    rows = [one for one in pool if all(_OBSERVATION_FILTERS[name](one) == text for name, text in wanted.items())]
    rows = [one for one in rows if user_id is None or _user_of(call, one) == user_id]
    rows = [one for one in rows if from_us is None or one.start_us >= from_us]
    return [one for one in rows if to_us is None or one.start_us < to_us]


def _user_of(call: Call, observation: Observation) -> str | None:
    trace = call.data.traces.get(observation.trace_id)
    return trace.user_id if trace else None


def get_observation(call: Call) -> Response:
    """GET /observations/{id}."""
    observation = call.data.observations.get(call.path_id)
    if observation is None:
        raise not_found(f"Observation with id {call.path_id} not found")
    return json_answer(200, observation_row(observation, call.project_id, missing_price=None))


def list_sessions(call: Call) -> Response:
    """GET /sessions."""
    page = Parameters(call.request.query).page()
    sessions = {trace.session_id: trace for trace in reversed(call.data.traces.values()) if trace.session_id}
    rows = [
        {
            "id": session_id,
            "createdAt": time_text(trace.updated_us),
            "projectId": call.project_id,
            "environment": trace.environment,
        }
        for session_id, trace in sessions.items()
    ]
    return json_answer(200, {"data": rows[page.start : page.start + page.limit], "meta": page.meta(len(rows))})


def get_session(call: Call) -> Response:
    """GET /sessions/{id}: the session with its traces, oldest first (golden 01)."""
    traces = [trace for trace in call.data.traces.values() if trace.session_id == call.path_id]
    if not traces:
        raise not_found("Session not found within authorized project")
    traces.sort(key=lambda trace: trace.timestamp_us)
    session = {
        "id": call.path_id,
        "createdAt": time_text(traces[0].updated_us),
        "projectId": call.project_id,
        "environment": traces[0].environment,
        "traces": [session_trace(trace, call.project_id) for trace in traces],
    }
    return json_answer(200, session)


def list_projects(call: Call) -> Response:
    """GET /projects: the project of the key (facts/langfuse.md section 8)."""
    project = call.data.project
    row = {"id": project.project_id, "name": project.name, "organization": ORGANIZATION, "metadata": {}}
    return json_answer(200, {"data": [row]})
