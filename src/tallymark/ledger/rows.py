"""What the ledger writes many of, as rows: the parameters of a statement by name, in the order of their first use.

Named tuples, because a row is made for every trace, and binding by position takes half the time of binding by name.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from ..core.clock import DAY_US
from ..core.decisions import Decision, NewEntry, TraceKey, attributes_text
from ..core.readings import Reading
from ..core.types import Trace, Unit

_encode = msgspec.json.Encoder().encode


class RunRef(NamedTuple):
    """The run that writes, and when; `staged_by` is the part of a plan that reads: it decides what it has staged."""

    run_id: str
    now_us: int
    decision_digest: str
    staged_by: str = ""


class Asked(NamedTuple):
    """Under which id a run is kept, and who asked for it; '' is who started it by hand."""

    run_id: str
    by: str


class PutTrace(NamedTuple):
    """A trace as it was read, and what was decided."""

    project_id: str
    trace_id: str
    timestamp_us: int
    outcome: str
    reason: str
    detail: str
    result: str
    run_id: str
    now_us: int
    decision_digest: str
    customer_id: str | None
    found_by: str | None
    worth_micros: int | None
    billed_micros: int
    card_digest: str | None
    components: str
    name: str | None
    user_id: str | None
    session_id: str | None
    release: str | None
    version: str | None
    environment: str
    public: int
    bookmarked: int
    tags: str
    attributes: str
    marked: str
    mark_state: str
    generation: str
    root_seen: int
    cost_usd: str | None
    duration_s: str | None


class TouchTrace(NamedTuple):
    """A trace that was read again, and about which nothing changed."""

    run_id: str
    result: str
    now_us: int
    marked: str
    mark_state: str
    project_id: str
    trace_id: str


class PutStaleUsage(NamedTuple):
    """A customer and a day whose sums are to be made again."""

    day_us: int
    customer_id: str


class PutUnit(NamedTuple):
    """An observation as it was read."""

    project_id: str
    trace_id: str
    unit_id: str
    cost_usd: str | None
    tokens: int | None
    model: str | None
    problem: str | None
    start_us: int | None
    end_us: int | None
    updated_at_us: int
    now_us: int


class PutReading(NamedTuple):
    """What observations said of a trace that is not decided yet."""

    project_id: str
    trace_id: str
    timestamp_us: int
    root_seen: int
    dated_by_trace: int
    complete: int
    name: str | None
    user_id: str | None
    session_id: str | None
    release: str | None
    version: str | None
    environment: str
    public: int
    bookmarked: int
    tags: str
    attributes: str
    marked: str
    staged_by: str


class DeleteReading(NamedTuple):
    """Names a reading, and who staged it."""

    project_id: str
    trace_id: str
    staged_by: str


class AppendEntry(NamedTuple):
    """One line of the ledger; `digest` links it to the line before (ledger/chain.py)."""

    entry_id: int
    project_id: str
    trace_id: str
    meter: str
    sequence: int
    kind: str
    customer_id: str
    amount_micros: int
    timestamp_us: int
    bucket_start_us: int
    bucket_end_us: int
    bucket_key: str
    card_digest: str
    components: str
    run_id: str
    now_us: int
    meter_event_id: str | None = None
    decision_id: int | None = None
    digest: str = ""


class PutDecision(NamedTuple):
    """What a person, or evidence, decided about money; `digest` links it to the decision before."""

    decision_id: int
    at_us: int
    who: str
    verb: str
    subject_kind: str
    subject: str
    amount_micros: int
    why: str
    detail: str
    digest: str


class PutNotification(NamedTuple):
    """That Stripe has something to report."""

    notification_id: str
    type: str
    object_id: str
    created_at_us: int
    received_at_us: int


class PutComparedDay(NamedTuple):
    """What a reconciliation found of a customer, a meter and a UTC day; `differences`: JSON, micro-credits by cause."""

    run_id: str
    day_us: int
    customer_id: str
    meter: str
    langfuse_micros: int
    entries_micros: int
    accepted_micros: int
    stripe_micros: int | None
    differences: str


class TraceRef(NamedTuple):
    """Names a trace."""

    project_id: str
    trace_id: str


class MarkWritten(NamedTuple):
    """A mark that was taken."""

    now_us: int
    project_id: str
    trace_id: str


class MarkRefused(NamedTuple):
    """A mark that was refused, and why."""

    problem: str
    project_id: str
    trace_id: str


class PutScoreMark(NamedTuple):
    """A trace that carries the score of a mark."""

    project_id: str
    trace_id: str
    run_id: str


def put_trace(run: RunRef, decision: Decision) -> PutTrace:
    """A decision as the row of its trace. The usage of a trace as a whole is its last unit."""
    trace, customer, rated, whole = decision.trace, decision.customer, decision.rated, decision.trace.units[-1]
    return PutTrace(
        trace.project_id,
        trace.trace_id,
        trace.timestamp_us,
        decision.outcome,
        decision.reason,
        decision.detail,
        decision.result,
        run.run_id,
        run.now_us,
        run.decision_digest,
        customer.customer_id if customer else None,
        customer.found_by if customer else None,
        decision.worth_micros,
        decision.billed_micros,
        rated.card_digest if rated else None,
        decision.components,
        trace.name,
        trace.user_id,
        trace.session_id,
        trace.release,
        trace.version,
        trace.environment,
        int(trace.public),
        int(trace.bookmarked),
        _tags_text(trace),
        attributes_text(trace),
        trace.marked,
        decision.mark_state,
        trace.generation,
        int(trace.root_seen),
        _text(whole.cost_usd),
        _text(whole.duration_s),
    )


def put_stale_usage(decision: Decision) -> PutStaleUsage:
    """The customer and day of a trace that is billed."""
    assert decision.customer is not None
    return PutStaleUsage(decision.trace.timestamp_us // DAY_US * DAY_US, decision.customer.customer_id)


def touch_trace(run: RunRef, decision: Decision) -> TouchTrace:
    """A decision that changed nothing."""
    trace = decision.trace
    return TouchTrace(
        run.run_id,
        decision.result,
        run.now_us,
        trace.marked,
        decision.mark_state,
        trace.project_id,
        trace.trace_id,
    )


def put_unit(run: RunRef, project_id: str, trace_id: str, unit: Unit) -> PutUnit:
    """A usage unit as its row."""
    return PutUnit(
        project_id,
        trace_id,
        unit.unit_id,
        _text(unit.cost_usd),
        unit.tokens,
        unit.model,
        unit.problem,
        unit.start_us,
        unit.end_us,
        unit.updated_us,
        run.now_us,
    )


def append_entry(run: RunRef, key: TraceKey, entry: NewEntry, sequence: int) -> AppendEntry:
    """An entry as its row, not linked yet; `sequence` counts the entries of a trace and meter from 0."""
    return AppendEntry(
        0,
        *key,
        entry.meter,
        sequence,
        entry.kind,
        entry.customer_id,
        entry.amount_micros,
        entry.timestamp_us,
        entry.bucket_start_us,
        entry.bucket_end_us,
        entry.bucket_key,
        entry.card_digest,
        entry.components,
        run.run_id,
        run.now_us,
        decision_id=entry.decision_id,
    )


def put_reading(run: RunRef, reading: Reading, complete: bool) -> PutReading:
    """A reading as its row; `complete` when all observations of the trace were asked for."""
    return PutReading(
        reading.project_id,
        reading.trace_id,
        reading.timestamp_us,
        int(reading.root_seen),
        int(reading.dated_by_trace),
        int(complete),
        reading.name,
        reading.user_id,
        reading.session_id,
        reading.release,
        reading.version,
        reading.environment,
        int(reading.public),
        int(reading.bookmarked),
        _tags_text(reading),
        _encode(reading.attributes).decode(),
        reading.marked,
        run.staged_by,
    )


def _tags_text(tagged: Trace | Reading) -> str:
    return _encode(tagged.tags).decode() if tagged.tags else "[]"


def _text(number: Decimal | None) -> str | None:
    return None if number is None else str(number)
