"""What several resources answer with: how a trace became credits, its meter events, decisions.

docs/reference/json.md says more. Amounts are credits as text with six decimals, unless a name says USD; times are
ISO-8601 in UTC.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Policy(msgspec.Struct):
    """The settings that decide what is held, and how usage is given back."""

    late_period: str
    invoice_grace_hours: str
    corrections: str
    deleted_traces: str


class Decision(msgspec.Struct):
    """What was decided about money: by whom (`who`), when, why, and on what evidence."""

    decision: int
    at: str
    who: str
    verb: str
    subject_kind: str
    subject: str
    credits: str
    why: str
    evidence: dict[str, Any]


class Attempt(msgspec.Struct):
    """One send of a meter event, and the answer; `window_total`: what it set the window of its meter to, if so."""

    sent_at: str
    outcome: str
    answer: str | None
    window_total: int | None


class UsageUnit(msgspec.Struct):
    """A billable fact of a trace: the whole of it (`unit_id` empty) or one observation. Null is unknown, not zero."""

    unit_id: str
    cost_usd: str | None
    duration_s: str | None
    tokens: int | None
    model: str | None
    problem: str | None


class Component(msgspec.Struct):
    """A part of a trace's credits: "ai", "compute" or "storage", exact, and the formula with its numbers."""

    name: str
    credits: str
    cost_usd: str
    formula: str


class MeterEventOfEntry(msgspec.Struct):
    """The meter event that covers an entry: `credits` = `bucket_credits` + `carry_before` - `carry_after`."""

    identifier: str
    sent_as: str
    state: str
    reason: str
    credits: int
    covers: tuple[str, str]
    timestamp: str
    bucket_credits: str
    carry_before: str
    carry_after: str
    attempts: list[Attempt]
    decisions: list[Decision]


class Entry(msgspec.Struct):
    """A line of the ledger: what a trace added to a bucket of a customer and meter."""

    kind: str
    meter: str
    customer: str
    credits: str
    bucket: tuple[str, str]
    meter_event: MeterEventOfEntry | None
    decision: Decision | None


class Mark(msgspec.Struct):
    """What Langfuse is told of a trace: none, waiting (for Stripe), owed, written or refused."""

    state: str
    seen: str
    written_at: str | None
    problem: str | None


class TraceExplained(msgspec.Struct):
    """How a trace of one project became credits."""

    project_id: str
    time: str
    name: str | None
    user_id: str | None
    outcome: str
    reason: str
    detail: str
    customer: str | None
    customer_found_by: str | None
    units: list[UsageUnit]
    rate_card: str | None
    margin: str | None
    components: list[Component]
    worth: str
    billed: str
    entries: list[Entry]
    mark: Mark
    decisions: list[Decision]
    read_at: str
    deleted_at: str | None


class Explanation(msgspec.Struct):
    """Everything that the ledger knows of a trace, once for each project that has it."""

    trace_id: str
    projects: list[TraceExplained]
    policy: Policy


class Share(msgspec.Struct):
    """A trace in a meter event, and what of it is there."""

    trace_id: str
    project_id: str
    time: str
    credits: str


class ChoiceOffered(msgspec.Struct):
    """What may be decided: a `choice`, what it does, and the command line that does the same."""

    choice: str
    does: str
    command: str


class WaitingMeterEvent(msgspec.Struct):
    """A meter event that waits: `credits` whole, to be sent; `amount` its usage; at most 1,000 of its `traces`."""

    identifier: str
    customer: str
    meter: str
    bucket: tuple[str, str]
    timestamp: str
    credits: int
    amount: str
    carry_before: str
    carry_after: str
    state: str
    reason: str
    answer: str | None
    traces: list[Share]
    attempts: list[Attempt]
    decisions: list[Decision]
    choices: list[ChoiceOffered]
