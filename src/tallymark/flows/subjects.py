"""What a person can decide about: held traces and waiting meter events, found by id or by reason. Reads the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.choices import DELETED
from ..core.decisions import Outcome, TraceKey
from ..errors import ConfigError, NotFound
from ..ledger import Ledger

NO_LIMIT = 2**31


@dataclass(frozen=True, slots=True)
class Subject:
    """A trace or a meter event, what it is worth, and why it waits ('' if it does not). `key` is a trace's."""

    kind: str
    identity: str
    amount_micros: int
    reason: str
    customer_id: str | None
    key: TraceKey | None = None


def find(ledger: Ledger, identity: str) -> Subject:
    """The meter event or trace of an id. `project/trace` names a trace that several projects have.

    Raises NotFound if the ledger has neither, ConfigError if it is not clear which.
    """
    # Behind a point stands the number of the issue, which is no part of the ledger's own id.
    event = next(iter(ledger.query("meter_event", meter_event_id=identity.partition(".")[0])), None)
    if event is not None:
        return _of_meter_event(event)
    rows = list(ledger.query("find_trace", trace_id=identity)) or _named_with_project(ledger, identity)
    if not rows:
        raise NotFound(f"the ledger knows no trace and no meter event {identity!r}; see `tallymark held list`.")
    waiting = [row for row in rows if _reason_of(row)] or rows
    if len(waiting) > 1:
        names = " or ".join(f"{row['project_id']}/{row['trace_id']}" for row in waiting)
        raise ConfigError(f"several projects have a trace {identity!r}; name {names}.")
    return _of_trace(waiting[0])


def _named_with_project(ledger: Ledger, identity: str) -> list[Any]:
    project_id, _, trace_id = identity.partition("/")
    return [row for row in ledger.query("find_trace", trace_id=trace_id) if row["project_id"] == project_id]


def find_all(ledger: Ledger, identities: Sequence[str], reason: str | None) -> list[Subject]:
    """Those of these ids, each once; or everything that waits for a reason. Raises NotFound if that is nothing."""
    if reason is None:
        return list(dict.fromkeys(find(ledger, identity) for identity in identities))
    found = list(_of_reason(ledger, reason))
    if not found:
        raise NotFound(f"nothing is held as {reason!r}; see `tallymark held list`.")
    return found


def _of_reason(ledger: Ledger, reason: str) -> Iterator[Subject]:
    for row in ledger.query("list_held", reason=reason, limit=NO_LIMIT):
        key = row["project_id"], row["trace_id"]
        yield Subject("trace", "/".join(key), row["amount_micros"], reason, row["customer_id"], key)
    for row in ledger.query("list_open_meter_events", reason=reason, limit=NO_LIMIT):
        yield _of_meter_event(row)


def _of_meter_event(row: Any) -> Subject:
    reason = row["reason"] if row["state"] == "held" else row["state"]
    return Subject("meter_event", row["meter_event_id"], row["entries_micros"], reason, row["customer_id"])


def _of_trace(row: Any) -> Subject:
    reason, key = _reason_of(row), (row["project_id"], row["trace_id"])
    amount_micros = row["billed_micros"] if reason == DELETED else row["worth_micros"]
    return Subject("trace", row["trace_id"], amount_micros, reason, row["customer_id"], key)


def _reason_of(row: Any) -> str:
    """Why a trace waits; empty if it does not."""
    waits = row["outcome"] == Outcome.HELD or row["reason"] == DELETED
    return str(row["reason"]) if waits else ""
