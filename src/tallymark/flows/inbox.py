"""Inbox: what waits for a person, in pages, and a person's word on it with the money that it was said about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..config import Config
from ..core.choices import OF_TRACE, Choice
from ..core.clock import Clock, format_time
from ..core.credits import format_micros
from ..errors import ConfigError
from ..ledger import Ledger
from .explain import decision_of
from .held_decisions import Plan, release
from .paging import Listing, listing, read_cursor

EARLIEST_US, LATEST = -(2**62), 2**62
# What any meter event that waits for this may be open to; what one of them is open to depends on its sends.
OF_METER_EVENT = {
    "in_doubt": (Choice.ARRIVED, Choice.NOT_SENT),
    "rejected": (Choice.AS_IS, Choice.ASSIGN, Choice.BILL_NOW, Choice.INVOICE_ITEM, Choice.WAIVE),
}


class HeldTrace(msgspec.Struct):
    """A trace that waits: held before it was billed, or billed and gone since. `identity` names it in decisions."""

    identity: str
    trace_id: str
    project_id: str
    time: str
    reason: str
    detail: str
    customer: str | None
    user_id: str | None
    credits: str


class HeldMeterEvent(msgspec.Struct):
    """A meter event that waits: held, rejected or in doubt. `credits` are whole, to be sent; `amount` is its usage."""

    identity: str
    customer: str
    meter: str
    bucket: str
    credits: int
    amount: str
    state: str
    reason: str
    attempts: int
    answer: str | None


@dataclass(frozen=True, slots=True)
class Said:
    """A person's word: a choice of `core.choices.Choice` on some ids, or on all that waits for a reason; and why.

    What is None of `expected_credits` (as `format_micros` writes it) and `expected_count` is not looked at.
    """

    choice: str
    why: str
    by: str
    ids: Sequence[str] = ()
    reason: str | None = None
    customer_id: str | None = None
    expected_credits: str | None = None
    expected_count: int | None = None


class PlanChanged(ConfigError):
    """What was to be decided is something else by now; `plan` is what it is."""

    def __init__(self, message: str, plan: Plan) -> None:
        super().__init__(message)
        self.plan = plan


def held_traces(ledger: Ledger, reason: str, limit: int, cursor: str | None = None) -> Listing[HeldTrace]:
    """A page of the traces that wait, the oldest first; `reason` is empty for all. Raises ConfigError."""
    from_us, project_id, trace_id = read_cursor(cursor, int, str, str) if cursor is not None else (EARLIEST_US, "", "")
    place = {"from_us": from_us, "after_project": project_id, "after_trace": trace_id}
    rows = list(ledger.query("held_traces", reason=reason, **place, limit=limit + 1))
    return listing(rows, limit, _trace, lambda row: (row["timestamp_us"], row["project_id"], row["trace_id"]))


def held_meter_events(ledger: Ledger, reason: str, limit: int, cursor: str | None = None) -> Listing[HeldMeterEvent]:
    """A page of the meter events that wait, the oldest bucket first; `reason` is empty for all. Raises ConfigError."""
    after_us, after_id = read_cursor(cursor, int, str) if cursor is not None else (EARLIEST_US, "")
    place = {"after_us": after_us, "after_id": after_id}
    rows = list(ledger.query("held_meter_events", reason=reason, **place, limit=limit + 1))
    return listing(rows, limit, _meter_event, lambda row: (row["bucket_start_us"], row["meter_event_id"]))


def decisions(
    ledger: Ledger, limit: int, cursor: str | None = None, first: int = 0, last: int = LATEST
) -> Listing[dict[str, Any]]:
    """A page of what was decided, the newest first; of those numbered from `first` to `last`. Raises ConfigError."""
    if cursor is not None:
        last = min(last, read_cursor(cursor, int)[0] - 1)
    rows = list(ledger.query("decisions_between", first=first, last=last, limit=limit + 1))
    return listing(rows, limit, decision_of, lambda row: (row["decision_id"],))


def choices_for(reason: str) -> tuple[Choice, ...]:
    """What may be decided about things that wait for a reason."""
    return OF_TRACE.get(reason) or OF_METER_EVENT.get(reason) or OF_METER_EVENT["rejected"]


def plan(config: Config, said: Said, clock: Clock) -> Plan:
    """What a word would decide, with the money; nothing is decided. Raises as `release` does."""
    seen: list[Plan] = []

    def refuse(found: Plan) -> bool:
        seen.append(found)
        return False

    _say(config, said, clock, refuse)
    return seen[0]


def decide(config: Config, said: Said, clock: Clock) -> dict[str, Any]:
    """Carry out a word. Raises as `release` does, and PlanChanged if it is about other money than expected."""

    def confirm(found: Plan) -> bool:
        _check_expected(said, found)
        return True

    return _say(config, said, clock, confirm)


def _say(config: Config, said: Said, clock: Clock, confirm: Callable[[Plan], bool]) -> dict[str, Any]:
    return release(
        config,
        said.ids,
        said.choice,
        why=said.why,
        by=said.by,
        customer_id=said.customer_id,
        reason=said.reason,
        confirm=confirm,
        clock=clock,
    )


def _check_expected(said: Said, found: Plan) -> None:
    credits, count = format_micros(found.amount_micros), len(found.subjects)
    if said.expected_credits not in (None, credits) or said.expected_count not in (None, count):
        expected = f"{said.expected_credits or 'some'} credits" + (
            f" in {said.expected_count}" if said.expected_count is not None else ""
        )
        raise PlanChanged(
            f"it was {expected} and is {credits} credits in {count} by now; nothing was decided. Look again.", found
        )


def _trace(row: Any) -> HeldTrace:
    return HeldTrace(
        f"{row['project_id']}/{row['trace_id']}",
        row["trace_id"],
        row["project_id"],
        format_time(row["timestamp_us"]),
        row["reason"],
        row["detail"],
        row["customer_id"],
        row["user_id"],
        format_micros(row["amount_micros"]),
    )


def _meter_event(row: Any) -> HeldMeterEvent:
    return HeldMeterEvent(
        row["meter_event_id"],
        row["customer_id"],
        row["meter"],
        format_time(row["bucket_start_us"]),
        row["credits"],
        format_micros(row["entries_micros"]),
        row["state"],
        row["reason"],
        row["attempt"],
        row["answer"],
    )
