"""Traces as the ledger knows them, one after the other: the usage of each, and what was decided of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec

from ..core.readings import time_unit
from ..core.types import WHOLE_TRACE, Reason, Trace, Unit
from .ledger import Ledger
from .staging import unit_of


@dataclass(slots=True)
class Stored:
    """A trace with all usage that is known of it; its outcome and why, whom it was billed to, how much, and how."""

    trace: Trace
    outcome: str
    reason: str
    customer_id: str | None
    billed_micros: int
    card_digest: str | None
    components: str


def stored_traces(ledger: Ledger, from_us: int, to_us: int) -> Iterator[Stored]:
    """Stream the traces of a range that were billed or held, or had no billable usage, in order of their time."""
    rows = ledger.query("stored_traces", from_us=from_us, to_us=to_us)
    for _, of_one_trace in groupby(rows, key=lambda row: (row["project_id"], row["trace_id"])):
        yield _stored(list(of_one_trace))


def count_stored_traces(ledger: Ledger, from_us: int, to_us: int) -> int:
    """How many traces `stored_traces` gives."""
    (row,) = ledger.query("count_stored_traces", from_us=from_us, to_us=to_us)
    traces: int = row["traces"]
    return traces


def _stored(rows: Sequence[Any]) -> Stored:
    row = rows[0]
    return Stored(
        _trace_of(rows),
        row["outcome"],
        row["reason"],
        row["customer_id"],
        row["billed_micros"],
        row["card_digest"],
        row["components"],
    )


def _trace_of(rows: Sequence[Any]) -> Trace:
    row = rows[0]
    whole = row["generation"] == "traces"
    return Trace(
        row["project_id"],
        row["trace_id"],
        row["timestamp_us"],
        (_whole_unit(row),) if whole else _observations(rows),
        user_id=row["user_id"],
        session_id=row["session_id"],
        attributes=msgspec.json.decode(row["attributes"]),
        unpriced=whole and row["reason"] == Reason.UNPRICED,
        root_seen=bool(row["root_seen"]),
        generation=row["generation"],
    )


def _whole_unit(row: Any) -> Unit:
    """The one unit of a trace that was read whole. Without numbers, what was wrong with them is why it was held."""
    if row["whole_cost_usd"] is None:
        return Unit(WHOLE_TRACE, None, None, problem=row["detail"])
    return Unit(WHOLE_TRACE, Decimal(row["whole_cost_usd"]), Decimal(row["whole_duration_s"]))


def _observations(rows: Sequence[Any]) -> tuple[Unit, ...]:
    units = [unit_of(row) for row in rows if row["unit_id"] is not None]
    return (*units, time_unit(units))
