"""The nouns that travel between stations: Trace and its usage units in, rated components and decisions out.

All are values: nobody changes one. Those made for every trace are not declared frozen, which would cost a fifth of the
time of collecting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

WHOLE_TRACE = ""
"""The unit id of a trace read from the legacy API, where the whole trace is one unit."""


@dataclass(slots=True)
class Unit:
    """One usage unit: a billable fact inside a trace.

    `cost_usd` is what Langfuse reports, exact; None means unknown (never 0). `duration_s` is in seconds.
    `tokens` is None where the source cannot tell; `models` are tokens by model, where one unit holds several.
    `problem` says what is wrong with the numbers, if anything.
    `start_us`, `end_us` and `updated_us` are known of observations only.
    """

    unit_id: str
    cost_usd: Decimal | None
    duration_s: Decimal | None
    tokens: int | None = None
    model: str | None = None
    problem: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    updated_us: int = 0
    models: tuple[tuple[str | None, int], ...] = ()


@dataclass(slots=True)
class Trace:
    """One unit of an application's work, as read from a source. Holds no prompt and no answer.

    `attributes` are only those metadata keys that billing reads, as text. `unpriced` is the source's own word that
    tokens were used and no cost is known. `marked` says how the trace claims to be processed: "metadata", "tag",
    "metadata,tag", "score", or "" for not at all. `root_seen` is false while the observation that may name the customer
    has not arrived. `generation` is "traces" or "observations": what it was read through.
    """

    project_id: str
    trace_id: str
    timestamp_us: int
    units: tuple[Unit, ...]
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
    unpriced: bool = False
    marked: str = ""
    root_seen: bool = True
    generation: str = "traces"


class Reason(StrEnum):
    """Why a trace is skipped or held; the words of the outside contract (CONTRACT, sync --json)."""

    ALREADY_PROCESSED = "already_processed"
    NO_BILLABLE_USAGE = "no_billable_usage"
    FUTURE_TIMESTAMP = "future_timestamp"
    FILTERED = "filtered"
    NO_CUSTOMER = "no_customer"
    TOO_OLD = "too_old"
    UNRATED = "unrated"
    UNPRICED = "unpriced"
    LATE_PERIOD = "late_period"
    WINDOW_CUT = "window_cut"
    IN_DOUBT = "in_doubt"
    WAIVED = "waived"


SKIPPED = (
    Reason.ALREADY_PROCESSED,
    Reason.NO_BILLABLE_USAGE,
    Reason.FUTURE_TIMESTAMP,
    Reason.FILTERED,
    Reason.WAIVED,
)
HELD = (
    Reason.NO_CUSTOMER,
    Reason.TOO_OLD,
    Reason.UNRATED,
    Reason.UNPRICED,
    Reason.LATE_PERIOD,
    Reason.WINDOW_CUT,
    Reason.IN_DOUBT,
)


@dataclass(slots=True)
class Component:
    """A part of a trace's credits: "ai", "compute" or "storage", with the exact amount and how it came about."""

    name: str
    credits: Decimal
    cost_usd: Decimal
    formula: str


@dataclass(slots=True)
class Rated:
    """What a trace is worth under one dated rule of a rate card. No component has a negative amount.

    `credits` is the exact sum of the components.
    """

    components: tuple[Component, ...]
    credits: Decimal
    margin: Decimal
    card_digest: str


@dataclass(frozen=True, slots=True)
class Unrated:
    """Why a trace could not be rated: UNRATED, UNPRICED or NO_BILLABLE_USAGE, and a sentence for people.

    `lacks_tokens`: only because the source does not tell its tokens, by which the card rates.
    """

    reason: Reason
    detail: str
    lacks_tokens: bool = False


@dataclass(frozen=True, slots=True)
class Customer:
    """Whom to bill, and how that was found: "override", "metadata", "user", "organization", "session", "default".

    "decision": a person said so of the trace; "user rule" and the like: of all traces of that user.
    """

    customer_id: str
    found_by: str
