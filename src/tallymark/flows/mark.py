"""Mark: write marks for traces whose entries are all accepted; what is refused stays owed for the next run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from ..core.clock import Clock, format_time
from ..core.credits import format_micros
from ..core.decisions import EntryKind, Outcome
from ..core.states import State
from ..ledger import Ledger
from ..marks.langfuse import Mark, Written
from .progress import Progress

ROWS = 1000
_encode = msgspec.json.Encoder().encode
INSTEAD = {EntryKind.WAIVER: "waived", EntryKind.INVOICED: "invoice item"}
KEPT = {"name": "name", "user_id": "userId", "session_id": "sessionId", "release": "release", "version": "version"}


class Marker(Protocol):
    """Writes marks to one project, in as few requests as fit."""

    def write(self, marks: Iterator[Mark]) -> Iterator[Written]:
        """Write marks; yields what became of them, request by request."""
        ...


@dataclass(slots=True)
class Marked:
    """How many marks were written, and how many refused."""

    written: int = 0
    failed: int = 0


def mark(
    ledger: Ledger,
    marker: Marker,
    project_id: str,
    style: str,
    clock: Clock,
    progress: Progress,
    after_trace_id: str = "",
    through_trace_id: str = "",
) -> Marked:
    """Write every mark that is owed in a project, or of traces after one id and through another; '' is no bound."""
    marked = Marked()
    for written in marker.write(_owed(ledger, project_id, style, after_trace_id, through_trace_id)):
        ledger.settle_marks(written.taken, written.refused, clock.now_us())
        marked.written += len(written.taken)
        marked.failed += len(written.refused)
        progress("mark", marked.written, None)
    return marked


def _owed(ledger: Ledger, project_id: str, style: str, after: str, through: str) -> Iterator[Mark]:
    while rows := ledger.owed_marks(project_id, after, ROWS):
        wanted = [row for row in rows if not through or row["trace_id"] <= through]
        yield from (mark_of(row, style) for row in wanted)
        if len(wanted) < len(rows):
            return
        after = rows[-1]["trace_id"]


def mark_of(row: Any, style: str) -> Mark:
    """The mark of a trace, from its row in the ledger."""
    billed = row["outcome"] == Outcome.BILLED
    return Mark(
        row["project_id"],
        row["trace_id"],
        row["timestamp_us"],
        row["environment"],
        bool(row["public"]),
        by_score=style == "score" or bool(row["bookmarked"]),
        meter_event_id=_billed_by(row) if billed else None,
        # As text already: a request holds thousands of them.
        details=msgspec.Raw(_encode(details_of(row))) if billed else None,
        kept={theirs: row[ours] for ours, theirs in KEPT.items() if row[ours]},
    )


def _billed_by(row: Any) -> str:
    """The meter event that billed a trace, or what did instead: a bucket that went into the carry was never sent."""
    meter_event_id: str = row["meter_event_id"]
    return meter_event_id if row["state"] == State.ACCEPTED else INSTEAD.get(row["kind"], "carry")


def details_of(row: Any) -> dict[str, Any]:
    """What the metadata `billing_details` says: credits and cost by component, margin, rate card, and when."""
    rating = msgspec.json.decode(row["components"])
    return {
        "credits": format_micros(row["billed_micros"]),
        "margin": rating.get("margin", "1"),
        "components": {
            part["name"]: {"credits": _short(part["credits"]), "cost_usd": _short(part["cost_usd"])}
            for part in rating.get("parts", [])
        },
        "rate_card": row["card_digest"],
        "bucket": format_time(row["bucket_start_us"]),
        "accepted_at": format_time(row["answered_at_us"]) if row["answered_at_us"] else None,
    }


def _short(amount: str) -> str:
    """An exact amount to twelve decimals, as Langfuse keeps costs; the ledger has the rest."""
    return format(Decimal(amount).quantize(Decimal("1e-12")).normalize(), "f")
