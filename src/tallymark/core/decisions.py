"""What the ledger knows of a trace, and what is decided about it: the values that pass between flows and ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from json.encoder import encode_basestring as _quoted

from .types import Customer, Rated, Trace

PROCESSED = "processed"
"""The result of a trace whose usage is in the ledger and on its way, or accepted."""


class Outcome(StrEnum):
    """Where a trace stands in the ledger."""

    BILLED = "billed"
    SKIPPED = "skipped"
    HELD = "held"


class EntryKind(StrEnum):
    """What a line of the ledger is.

    charge: the first of a trace on a meter. adjustment: its usage changed. reversal and rebooking: an amount taken
    from one bucket and put into another by a decision. waiver: not billed, by a decision. invoiced: billed by an
    invoice item.
    """

    CHARGE = "charge"
    ADJUSTMENT = "adjustment"
    REVERSAL = "reversal"
    REBOOKING = "rebooking"
    WAIVER = "waiver"
    INVOICED = "invoiced"


class MarkState(StrEnum):
    """Where the mark of a trace stands: no mark due, money not accepted yet, to be written, written."""

    NONE = ""
    WAITING = "waiting"
    OWED = "owed"
    WRITTEN = "written"


MARK_ATTRIBUTES = frozenset({"billing_status", "meter_event_id"})
"""Metadata that tallymark itself writes."""

TraceKey = tuple[str, str]
"""(project_id, trace_id): a trace id is unique only inside its project."""


@dataclass(slots=True)
class Known:
    """What the ledger knows of a trace from earlier readings."""

    timestamp_us: int
    outcome: str
    reason: str
    detail: str
    result: str
    last_run_id: str
    decision_digest: str
    customer_id: str | None
    found_by: str | None
    worth_micros: int
    billed_micros: int
    components: str
    attributes: str
    card_digest: str | None
    mark_state: str
    mark_written_at_us: int | None
    cost_usd: Decimal | None
    duration_s: Decimal | None
    generation: str = "traces"
    waived_micros: int = 0

    @property
    def customer(self) -> Customer | None:
        """Whom the trace was billed to, if it was."""
        return Customer(self.customer_id, self.found_by or "") if self.customer_id else None


@dataclass(slots=True)
class NewEntry:
    """A line to append to the ledger: what one trace adds to one meter's bucket."""

    meter: str
    kind: str
    amount_micros: int
    customer_id: str
    timestamp_us: int
    bucket_start_us: int
    bucket_end_us: int
    bucket_key: str
    card_digest: str
    components: str
    decision_id: int | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """A person's word on a held trace: bill this customer, bill it as of `dated_at_us`, or (`waived`) do not."""

    decision_id: int
    waived: bool = False
    customer_id: str | None = None
    dated_at_us: int | None = None


@dataclass(slots=True)
class Decision:
    """What is to be stored of one trace, and how this run counts it.

    `result` is PROCESSED or a Reason; `result_before` is the one of an earlier reading in the same run, '' if there was
    none. `worth_micros` is None when nothing about the trace changed: then only the fact that it was read is stored.
    """

    trace: Trace
    result: str
    outcome: str
    mark_state: str
    reason: str = ""
    detail: str = ""
    customer: Customer | None = None
    rated: Rated | None = None
    worth_micros: int | None = None
    billed_micros: int = 0
    components: str = "{}"
    entries: tuple[NewEntry, ...] = field(default=())
    untagged: bool = False
    healed: bool = False
    adjusted: bool = False
    adopted: bool = False
    result_before: str = ""

    @property
    def first_in_run(self) -> bool:
        """Whether this is the run's first reading of the trace."""
        return not self.result_before


def attributes_text(trace: Trace) -> str:
    """What rating reads from a trace's metadata, as JSON text; our own marks are no part of it."""
    kept = sorted(trace.attributes.keys() - MARK_ATTRIBUTES)
    return f"{{{','.join([f'{_quoted(key)}:{_quoted(trace.attributes[key])}' for key in kept])}}}"


def key_of(trace: Trace) -> TraceKey:
    """The key of a trace in the ledger."""
    return trace.project_id, trace.trace_id
