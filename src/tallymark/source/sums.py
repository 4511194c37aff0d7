"""Traces that an engine has added up: one row of sums over a trace's observations becomes a Trace with one unit.

What a bulk source (a blob export, a ClickHouse) gives for each trace, whichever engine added it up. No object is made
for a single observation. The rules are those of the API that serves the same data: the trace list for the legacy
tables, the observations for the events tables (docs/adr/0040). Facts: facts/langfuse.md sections 10.4 and 12.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from typing import Any, NamedTuple, Protocol

import msgspec

from ..core.readings import merge_attributes
from ..core.types import WHOLE_TRACE, Trace, Unit
from .rows import PENDING_TAG, PROCESSED_TAG, Metadata, Page, attributes_of, marked_by

PAGE_TRACES = 500
METADATA_KEYS: tuple[str, ...] = Metadata.__struct_fields__
# Longer values are no ids; so much longer that blanks around one are no matter.
METADATA_CHARS_MAX = 1000
_TAGS: dict[tuple[bool, bool], list[str]] = {
    (False, False): [],
    (True, False): [PENDING_TAG],
    (False, True): [PROCESSED_TAG],
    (True, True): [PENDING_TAG, PROCESSED_TAG],
}
_THOUSAND = Decimal(1000)


class TraceSums(NamedTuple):
    """What an engine says of one trace, in this order.

    `cost_usd` is exact text; `duration_ms` is from the first start to the last end. `tokens` is None where the trace
    list would not tell them; `models` are pairs of model and tokens, where they were asked for. `metadata` holds the
    billing keys of the trace or its observations, each different JSON text once.
    """

    project_id: str
    trace_id: str
    timestamp_us: int
    cost_usd: str
    duration_ms: int
    tokens: int | None
    models: Sequence[tuple[str | None, int]] | None
    unpriced: bool
    problem: str | None
    root_seen: bool
    name: str | None
    user_id: str | None
    session_id: str | None
    release: str | None
    version: str | None
    environment: str | None
    public: bool
    bookmarked: bool
    pending: bool
    processed: bool
    scored: bool
    metadata: Sequence[str | None]


class BulkSource(Protocol):
    """A source that gives whole traces, each added up over all of its observations that are in reach."""

    name: str
    """The word of BILLING_SOURCE."""

    def read(self, from_us: int, to_us: int) -> Iterable[Page]:
        """Traces with an observation of from_us <= start < to_us, in order of their time; in microseconds."""
        ...


def pages_of(rows: Iterable[Sequence[Any]]) -> Iterable[Page]:
    """Rows of sums as pages of traces."""
    traces: list[Trace] = []
    for row in rows:
        traces.append(trace_of(TraceSums._make(row)))
        if len(traces) == PAGE_TRACES:
            yield Page(traces, 0, len(traces), [])
            traces = []
    if traces:
        yield Page(traces, 0, len(traces), [])


def trace_of(sums: TraceSums) -> Trace:
    """One row of sums as a trace, read as a whole."""
    attributes = _attributes(tuple(sums.metadata))
    tags = _TAGS[bool(sums.pending), bool(sums.processed)]
    marked = marked_by(tags, dict(attributes))
    if sums.scored:
        marked = f"{marked},score" if marked else "score"
    return Trace(
        sums.project_id,
        sums.trace_id,
        sums.timestamp_us,
        (_unit_of(sums),),
        name=sums.name or None,
        user_id=sums.user_id or None,
        session_id=sums.session_id or None,
        release=sums.release or None,
        version=sums.version or None,
        environment=sums.environment or "default",
        public=bool(sums.public),
        bookmarked=bool(sums.bookmarked),
        tags=tuple(tags),
        attributes=attributes,
        unpriced=bool(sums.unpriced),
        marked=marked,
        root_seen=bool(sums.root_seen),
    )


def _unit_of(sums: TraceSums) -> Unit:
    if sums.problem:
        return Unit(WHOLE_TRACE, None, None, problem=sums.problem)
    cost = sums.cost_usd
    # An engine writes all decimals that its type has; people read formulas.
    cost_usd = Decimal(cost.rstrip("0").rstrip(".") or "0") if "." in cost else Decimal(cost)
    duration_s = Decimal(int(sums.duration_ms)) / _THOUSAND
    if sums.tokens is None:
        return Unit(WHOLE_TRACE, cost_usd, duration_s)
    models = tuple((model or None, int(tokens)) for model, tokens in sums.models or ())
    return Unit(WHOLE_TRACE, cost_usd, duration_s, int(sums.tokens), models=models)


@lru_cache(maxsize=10_000)
def _attributes(texts: tuple[str | None, ...]) -> Mapping[str, str]:
    """The billing metadata of a trace: texts that contradict each other are told as a contradiction (ADR 18).

    Kept, because most traces of a customer say the same.
    """
    return reduce(merge_attributes, [_attributes_of_text(text) for text in texts if text], {})


def _attributes_of_text(text: str) -> Mapping[str, str]:
    """One JSON object of texts. Langfuse keeps every value as text and parses it on reading (observed item 7)."""
    values = {key: _parsed(value) for key, value in msgspec.json.decode(text).items() if key in METADATA_KEYS}
    return attributes_of(Metadata(**values))


def _parsed(value: Any) -> Any:
    # A long number would lose digits.
    if not isinstance(value, str) or value.isdigit():
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return value
