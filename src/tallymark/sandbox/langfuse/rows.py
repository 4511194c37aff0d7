"""Rows of the v4 tables: their fixed order, and how data of the legacy tables becomes rows."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

from tallymark.core.clock import DAY_US

from .records import NO_CONTEXT, Observation, Trace, TraceContext

SYNTHETIC_PREFIX = "t-"

Position = tuple[int, int, str]


def position(row: Observation) -> Position:
    """Where a row stands; answers read downwards (facts/langfuse.md section 2.2).

    Traces of one start time stand in the order of a hash, as on the real server, whose hash is another one.
    """
    return row.start_us, tie(row.trace_id), row.id


def tie(trace_id: str) -> int:
    """The place of a trace among others of the same start time."""
    return crc32(trace_id.encode())


def is_root(row: Observation) -> bool:
    """What isRootObservation says: no parent, or named the root by SDK 4 and 5 (golden v4.16.0-dual 20-sdk-*)."""
    return row.parent_id is None or row.is_app_root


def context_of(trace: Trace) -> TraceContext:
    """What a row says about its trace when the whole trace is known."""
    return TraceContext(
        trace.name, trace.user_id, trace.session_id, trace.release, trace.public, trace.tags, trace.metadata
    )


def is_back_dated(trace: Trace) -> bool:
    """Whether a trace came so long after its time that its rows lack most of it (facts/langfuse-observed.md item 27).

    The recordings show a trace of the same minute and traces of three days before; where the line is, is our guess.
    """
    return trace.created_us - trace.timestamp_us > DAY_US


def synthetic_row(trace: Trace, context: TraceContext) -> Observation:
    """The row `t-<trace id>` that stands for a legacy trace itself: no end, no cost (facts/langfuse.md section 2.2)."""
    return Observation(
        id=SYNTHETIC_PREFIX + trace.id,
        trace_id=trace.id,
        start_us=trace.timestamp_us,
        name=trace.name,
        version=trace.version,
        environment=trace.environment,
        input=trace.input,
        output=trace.output,
        created_us=trace.created_us,
        updated_us=trace.updated_us,
        context=context,
    )


def propagated_row(observation: Observation, context: TraceContext) -> Observation:
    """A legacy observation as a row: roots hang below the synthetic row (golden v4.16.0-dual 31b)."""
    parent_id = observation.parent_id or SYNTHETIC_PREFIX + observation.trace_id
    return replace(observation, parent_id=parent_id, context=context)


def back_dated_context(trace: Trace) -> TraceContext:
    """What the synthetic row of a back-dated trace still says (golden v4.16.0-dual 31b)."""
    return replace(NO_CONTEXT, name=trace.name, public=trace.public, metadata=trace.metadata)
