"""What the sandbox Langfuse holds: traces with their observations and scores, and how a later write changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from .prices import total_cost
from .values import number

# The list counts observations from one hour before fromTimestamp, the detail from one hour before the trace
# (facts/langfuse.md sections 1.5 and 1.6).
OBSERVATION_LEAD_US = 3_600_000_000

# One empty object for all records without metadata; nothing writes into a metadata object, merging makes a new one.
_NO_METADATA: Mapping[str, Any] = {}
_NOTHING: frozenset[str] = frozenset()
_KEY_SETS: dict[frozenset[str], frozenset[str]] = {}


def _no_metadata() -> Mapping[str, Any]:
    return _NO_METADATA


@dataclass(frozen=True, slots=True)
class Project:
    """A Langfuse project and its key pair."""

    project_id: str
    public_key: str
    secret_key: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class TraceContext:
    """What one row of the v4 tables says about its trace: its own copy; nothing merges into it (observed item 26)."""

    name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    release: str | None = None
    public: bool = False
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=_no_metadata)


NO_CONTEXT = TraceContext()


@dataclass(slots=True, eq=False)
class Observation:
    """One span, generation or EVENT observation inside a trace. `usage` and `cost_usd` are as given, before pricing.

    With a `context` it is a row of the v4 tables, which never changes; it may be the legacy tables' record as well.
    """

    id: str
    trace_id: str
    start_us: int
    type: str = "SPAN"
    name: str | None = None
    end_us: int | None = None
    completion_start_us: int | None = None
    parent_id: str | None = None
    model: str | None = None
    model_parameters: dict[str, Any] | None = None
    usage: dict[str, int] | None = None
    cost_usd: dict[str, float] | None = None
    level: str = "DEFAULT"
    status_message: str | None = None
    version: str | None = None
    environment: str = "default"
    input: bytes | None = None
    output: bytes | None = None
    metadata: Mapping[str, Any] = field(default_factory=_no_metadata)
    created_us: int = 0
    updated_us: int = 0
    envelope_us: int = 0
    explicit: frozenset[str] = _NOTHING
    is_app_root: bool = False
    context: TraceContext | None = None


@dataclass(slots=True, eq=False)
class Score:
    """One score; a mark of a trace may be one. `value` is 0 where the value is text."""

    id: str
    name: str
    timestamp_us: int
    data_type: str
    value: float
    string_value: str | None
    trace_id: str | None = None
    observation_id: str | None = None
    session_id: str | None = None
    source: str = "API"
    comment: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=_no_metadata)
    environment: str = "default"
    created_us: int = 0
    updated_us: int = 0


class Scope(NamedTuple):
    """Which observations and scores a question counts: those since `start_us`, of these environments; None for all."""

    start_us: int | None = None
    environments: frozenset[str] | None = None

    def observations(self, of: Children) -> tuple[Observation, ...]:
        """The observations that count."""
        first_us = None if self.start_us is None else self.start_us - OBSERVATION_LEAD_US
        return tuple(one for one in of.observations if self._counts(one.start_us, first_us, one.environment))

    def scores(self, of: Children) -> tuple[Score, ...]:
        """The scores that count: no hour of lead here (facts/langfuse.md section 1.4)."""
        return tuple(one for one in of.scores if self._counts(one.timestamp_us, self.start_us, one.environment))

    def _counts(self, moment_us: int, first_us: int | None, environment: str) -> bool:
        if first_us is not None and moment_us < first_us:
            return False
        return self.environments is None or environment in self.environments


EVERYTHING = Scope()


class Totals(NamedTuple):
    """Sums over observations: USD and seconds as JSON numbers, and when the first one started."""

    cost_usd: int | float
    latency_s: int | float
    first_us: int | None


class Children:
    """The observations and scores of one trace id. Replaced tuples, not lists: most traces have one or none.

    `observations` are those of the legacy tables, merged by id; `rows` those of the v4 tables, with every version.
    """

    __slots__ = ("_totals", "observations", "rows", "scores")

    def __init__(self) -> None:
        self.observations: tuple[Observation, ...] = ()
        self.rows: tuple[Observation, ...] = ()
        self.scores: tuple[Score, ...] = ()
        self._totals: Totals | None = None

    def changed(self) -> None:
        """Forget the sums, because an observation came or changed."""
        self._totals = None

    def totals(self, scope: Scope = EVERYTHING) -> Totals:
        """Cost and latency over the observations of a scope."""
        everything = self._totals = self._totals or sum_up(self.observations)
        if scope.environments is None and not _starts_before(everything.first_us, scope.start_us):
            return everything
        return sum_up(scope.observations(self))


def _starts_before(first_us: int | None, start_us: int | None) -> bool:
    return first_us is not None and start_us is not None and first_us < start_us - OBSERVATION_LEAD_US


def sum_up(observations: tuple[Observation, ...]) -> Totals:
    """The cost (a decimal sum) and the span from first start to last end (facts/langfuse-observed.md items 1 and 4)."""
    if not observations:
        return Totals(0, 0, None)
    cost = sum((total_cost(one.cost_usd, one.model, one.usage) for one in observations), Decimal(0))
    first_us = min(one.start_us for one in observations)
    last_us = max(max(one.start_us, one.end_us or one.start_us) for one in observations)
    return Totals(number(float(cost)), seconds(first_us, last_us), first_us)


def seconds(from_us: int, to_us: int) -> int | float:
    """A duration as Langfuse gives it: seconds, from whole milliseconds."""
    return number((to_us // 1000 - from_us // 1000) / 1000)


@dataclass(slots=True, eq=False)
class Trace:
    """One row of the traces table. `writes` counts the row versions that the server would hold before merging them."""

    id: str
    timestamp_us: int
    children: Children
    environment: str = "default"
    name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    release: str | None = None
    version: str | None = None
    public: bool = False
    bookmarked: bool = False
    tags: tuple[str, ...] = ()
    input: bytes | None = None
    output: bytes | None = None
    metadata: Mapping[str, Any] = field(default_factory=_no_metadata)
    created_us: int = 0
    updated_us: int = 0
    envelope_us: int = 0
    explicit: frozenset[str] = _NOTHING
    writes: int = 0

    def is_older(self, envelope_us: int) -> bool:
        """Whether a write comes from before the newest one: it then fills gaps, but wins nothing."""
        return envelope_us < self.envelope_us


def assign(record: Trace | Observation, changes: Mapping[str, Any], envelope_us: int) -> None:
    """Set fields, the newest envelope winning field by field (facts/langfuse-observed.md item 8)."""
    older = envelope_us < record.envelope_us
    for name, value in changes.items():
        if not (older and name in record.explicit):
            setattr(record, name, value)
    keys = record.explicit.union(changes)
    # One set is shared by all records that were given the same fields.
    record.explicit = _KEY_SETS.setdefault(keys, keys)
    record.envelope_us = max(record.envelope_us, envelope_us)
