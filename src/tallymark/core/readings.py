"""What observations say of their traces: partial readings that are merged until a trace can be decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from .decisions import MARK_ATTRIBUTES
from .types import Trace, Unit

TIME_UNIT = "(time)"
"""The unit that stands for a trace's duration; it is made when a trace is decided, and never stored."""

CONFLICT = "conflict"
"""The attribute that says how observations of one trace contradict each other."""


@dataclass(slots=True)
class Reading:
    """What some observations say of one trace. `dated_by_trace`: timestamp_us is the trace's own, not a guess."""

    project_id: str
    trace_id: str
    timestamp_us: int
    units: tuple[Unit, ...]
    root_seen: bool = False
    dated_by_trace: bool = False
    name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    release: str | None = None
    version: str | None = None
    environment: str = "default"
    public: bool = False
    bookmarked: bool = False
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    marked: str = ""


def merge(first: Reading, second: Reading) -> Reading:
    """Two readings of one trace as one. Customer, tags and user may sit on any observation; the root's word is first.

    Attributes that contradict each other are not chosen between: the attribute CONFLICT says so.
    """
    leading, other = (second, first) if second.root_seen and not first.root_seen else (first, second)
    # Not `replace`, which takes five times as long: this is done for every observation.
    return Reading(
        project_id=leading.project_id,
        trace_id=leading.trace_id,
        timestamp_us=_timestamp_us(first, second),
        units=first.units + second.units,
        root_seen=first.root_seen or second.root_seen,
        dated_by_trace=first.dated_by_trace or second.dated_by_trace,
        name=leading.name or other.name,
        user_id=leading.user_id or other.user_id,
        session_id=leading.session_id or other.session_id,
        release=leading.release or other.release,
        version=leading.version or other.version,
        environment=leading.environment,
        public=leading.public or other.public,
        bookmarked=leading.bookmarked or other.bookmarked,
        tags=leading.tags if leading.tags == other.tags else tuple(sorted({*leading.tags, *other.tags})),
        attributes=merge_attributes(leading.attributes, other.attributes),
        marked=_merge_marked(leading.marked, other.marked),
    )


def _merge_marked(leading: str, other: str) -> str:
    if leading == other:
        return leading
    return ",".join(sorted({*leading.split(","), *other.split(",")} - {""}))


def _timestamp_us(first: Reading, second: Reading) -> int:
    """The trace's own time if a reading has it, else that of the root, else the earliest start."""
    if first.dated_by_trace != second.dated_by_trace:
        return first.timestamp_us if first.dated_by_trace else second.timestamp_us
    if first.root_seen != second.root_seen:
        return first.timestamp_us if first.root_seen else second.timestamp_us
    return min(first.timestamp_us, second.timestamp_us)


def merge_attributes(leading: Mapping[str, str], other: Mapping[str, str]) -> Mapping[str, str]:
    """What two parts of a trace say together; where they differ CONFLICT names the key, but for marks."""
    if leading == other or not other:
        return leading
    merged = {**other, **leading}
    for key in leading.keys() & other.keys():
        if leading[key] != other[key] and key not in (*MARK_ATTRIBUTES, CONFLICT):
            merged[CONFLICT] = key
    return merged


def newest_units(units: Sequence[Unit]) -> list[Unit]:
    """One unit for each id: a span that was written twice comes twice until it is merged; the newest is right."""
    found: dict[str, Unit] = {}
    for unit in units:
        if unit.unit_id not in found or unit.updated_us >= found[unit.unit_id].updated_us:
            found[unit.unit_id] = unit
    return list(found.values())


def time_unit(units: Sequence[Unit]) -> Unit:
    """The compute time of a trace: from the first start to the last end, as the legacy generation measures latency.

    So the bill is the same from both generations (docs/adr/0014). An observation without an end counts with its start.
    """
    moments = [unit.start_us for unit in units if unit.start_us is not None]
    moments += [unit.end_us for unit in units if unit.end_us is not None]
    span_us = max(moments) - min(moments) if moments else 0
    return Unit(TIME_UNIT, None, Decimal(span_us) / Decimal(1_000_000))


def trace_of(reading: Reading, units: Sequence[Unit]) -> Trace:
    """The trace that a merged reading and all of its known units make."""
    return Trace(
        project_id=reading.project_id,
        trace_id=reading.trace_id,
        timestamp_us=reading.timestamp_us,
        units=(*units, time_unit(units)),
        name=reading.name,
        user_id=reading.user_id,
        session_id=reading.session_id,
        release=reading.release,
        version=reading.version,
        environment=reading.environment,
        public=reading.public,
        bookmarked=reading.bookmarked,
        tags=reading.tags,
        attributes=reading.attributes,
        marked=reading.marked,
        root_seen=reading.root_seen,
        generation="observations",
    )
