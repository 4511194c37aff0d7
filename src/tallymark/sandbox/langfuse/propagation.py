"""The server's own jobs that copy data of the legacy tables into the v4 tables."""

from __future__ import annotations

from functools import partial

from .records import NO_CONTEXT, Observation
from .rows import back_dated_context, context_of, is_back_dated, propagated_row, synthetic_row
from .state import ProjectData
from .store import Store


def propagate_trace_later(store: Store, data: ProjectData, trace_id: str) -> None:
    """After a trace-create: in `dual` its synthetic row follows (facts/langfuse.md section 6)."""
    if store.settings.generation == "dual":
        store.later(_delay_seconds(store), partial(_propagate_trace, store, data, trace_id))


def propagate_observation_later(store: Store, data: ProjectData, observation_id: str) -> None:
    """After an observation by the ingestion API: in `dual` its row follows."""
    if store.settings.generation == "dual":
        store.later(_delay_seconds(store), partial(_propagate_observation, store, data, observation_id))


def _delay_seconds(store: Store) -> float:
    return store.settings.visibility_seconds + store.settings.propagation_seconds


def _propagate_trace(store: Store, data: ProjectData, trace_id: str) -> None:
    trace = data.traces.get(trace_id)
    if trace is not None:
        context = back_dated_context(trace) if is_back_dated(trace) else context_of(trace)
        store.publish(data, synthetic_row(trace, context))


def _propagate_observation(store: Store, data: ProjectData, observation_id: str) -> None:
    observation = data.observations.get(observation_id)
    if observation is not None:
        trace = data.traces.get(observation.trace_id)
        context = NO_CONTEXT if trace is None or is_back_dated(trace) else context_of(trace)
        store.publish(data, propagated_row(observation, context))


def backfill(store: Store, data: ProjectData) -> None:
    """An upgrade: everything that has no row yet, or an older one, gets one, with its trace's tags and user.

    Unlike the recorded propagation of back-dated traces: a migration of history reads whole traces. Not recorded.
    """
    contexts = {trace.id: context_of(trace) for trace in data.traces.values() if _needs_rows(data, trace.id)}
    for trace_id, context in contexts.items():
        store.publish(data, synthetic_row(data.traces[trace_id], context))
    for observation in data.observations.values():
        if _has_no_row(data, observation):
            store.publish(data, propagated_row(observation, contexts.get(observation.trace_id, NO_CONTEXT)))


def _needs_rows(data: ProjectData, trace_id: str) -> bool:
    children = data.children(trace_id)
    return not children.rows or any(_has_no_row(data, one) for one in children.observations)


def _has_no_row(data: ProjectData, observation: Observation) -> bool:
    if observation.context is not None:
        return False
    rows = data.children(observation.trace_id).rows
    return all(one.id != observation.id or one.updated_us < observation.updated_us for one in rows)
