"""Whether the last reconciliation speaks for a period: it covers it, explains all of it, and nothing came after."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..core.balance import UNEXPLAINED, Cause
from ..core.clock import format_time, parse_time
from ..core.credits import format_micros, parse_micros
from ..ledger.database import Database
from .audit import WIDTH_US
from .closing import Check, Period

DRIFT, PROOF = "drift", "proof"
TO_COME = (
    Cause.SETTLING,
    Cause.UNBILLED,
    Cause.CHANGED,
    Cause.HELD,
    Cause.IN_FLIGHT,
    Cause.LATE,
    Cause.IN_DOUBT,
    Cause.REJECTED,
)
"""Causes that end: when they have, the three are compared again."""


class _Line(msgspec.Struct):
    customer: str
    window: str
    differences: dict[str, str]


class _Found(msgspec.Struct):
    """What is needed of the summary of a reconciliation."""

    from_: str = msgspec.field(name="from")
    to: str
    by: str
    chain: str
    windows: list[_Line]


def check_drift(db: Database, period: Period) -> Iterator[Check]:
    """The line on the last reconciliation that covers a period, and the one on the ledger's head that it noted."""
    command = f"tallymark reconcile {period.options}"
    latest = _latest(db, period)
    if latest is None:
        told = "no reconciliation that began after the period's end covers it"
        yield Check(DRIFT, False, told, run=command)
        yield Check(PROOF, False, "no head of the ledger is noted for it; reconcile notes one", run=command)
        return
    at, found = latest
    yield _drift(db, period, at, found, command)
    yield _proof(db, found.chain)


def _latest(db: Database, period: Period) -> tuple[str, _Found] | None:
    """When the newest reconciliation that covers a period ended, and what it found. One from before the period's end
    could not have seen all of it."""
    for row in db.stream("close_reconciles", since_us=period.to_us):
        found = msgspec.json.decode(row["summary"], type=_Found)
        if parse_time(found.from_) <= period.from_us and parse_time(found.to) >= period.to_us:
            return format_time(row["finished_at_us"]), found
    return None


def _drift(db: Database, period: Period, at: str, found: _Found, command: str) -> Check:
    unexplained = _micros(found, period, UNEXPLAINED)
    to_come = _micros(found, period, TO_COME)
    since = db.row("close_entries_since", after_entry_id=_length(found.chain), **period.values)
    if unexplained:
        told = f"reconcile at {at} left differences unexplained"
        return Check(DRIFT, False, told, format_micros(unexplained), run=command)
    if since["entries"]:
        told = f"{since['entries']:,} lines of the ledger are younger than reconcile at {at}"
        return Check(DRIFT, False, told, format_micros(since["amount_micros"]), run=command)
    if to_come:
        told = f"reconcile at {at} found usage that was still to be billed or counted; settle that, then run it again"
        return Check(DRIFT, False, told, format_micros(to_come), run=command)
    return Check(DRIFT, True, f"reconcile at {at} explains every difference", format_micros(0))


def _micros(found: _Found, period: Period, causes: tuple[Cause, ...]) -> int:
    """How much differs for some causes in the windows that touch a period, each by its size."""
    width_us = WIDTH_US[found.by]
    return sum(
        abs(parse_micros(amount))
        for line in found.windows
        if period.customer_id in ("", line.customer)
        and period.from_us - width_us < parse_time(line.window) < period.to_us
        for cause, amount in line.differences.items()
        if cause in causes
    )


def _proof(db: Database, head: str) -> Check:
    """Whether the line that a reconciliation noted still has its digest; `ledger verify` recomputes all before it."""
    row = db.row("entry_digest", entry_id=_length(head))
    length, _, digest = head.partition(":")
    if (row["digest"] if row is not None else "") == digest:
        return Check(PROOF, True, f"line {length} is as reconcile noted it")
    return Check(
        PROOF, False, f"line {length} is not as reconcile noted it", run=f"tallymark ledger verify --expect {head}"
    )


def _length(head: str) -> int:
    """How many lines a head LENGTH:DIGEST stands for."""
    return int(head.partition(":")[0])
