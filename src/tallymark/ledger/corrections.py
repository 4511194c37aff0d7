"""What happens to meter events that Stripe did not count, or must not count as they are.

A meter event is never changed: one that is withdrawn is cancelled, its entries are taken back by entries that it covers
too, and what is still to be billed is entered anew, elsewhere. So every sum stays provable, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.decisions import EntryKind
from ..core.states import State
from .chain import link_decision_txn, link_entries_txn
from .database import Database, Row
from .rows import AppendEntry, PutDecision, RunRef


@dataclass(frozen=True, slots=True)
class Decided:
    """What is decided about money: by whom, why, and on what evidence (JSON text)."""

    who: str
    verb: str
    subject_kind: str
    subject: str
    amount_micros: int
    why: str
    detail: str = "{}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where withdrawn usage is entered anew. `customer_id` None leaves the customer as it is; times in microseconds."""

    timestamp_us: int
    bucket_start_us: int
    bucket_end_us: int
    customer_id: str | None = None


def put_decision_txn(db: Database, at_us: int, decided: Decided) -> int:
    """Store a decision inside the caller's transaction; its number."""
    row = PutDecision(
        0,
        at_us,
        decided.who,
        decided.verb,
        decided.subject_kind,
        decided.subject,
        decided.amount_micros,
        decided.why,
        decided.detail,
        "",
    )
    linked = link_decision_txn(db, row)
    db.write("put_decision", **linked._asdict())
    return linked.decision_id


def withdraw_txn(
    db: Database, run: RunRef, meter_event_id: str, decision_id: int, place: Place | None, kind: EntryKind
) -> int:
    """Cancel a meter event that Stripe does not count, inside the caller's transaction; the micro-credits withdrawn.

    `kind` says what the lines that take its entries back are: REVERSAL if `place` says where they are entered anew,
    else WAIVER or INVOICED. The carry is put back to what it would be without this meter event.
    """
    event = db.row("meter_event", meter_event_id=meter_event_id)
    covered = db.rows("covered_by", meter_event_id=meter_event_id)
    lines = [line for row in covered for line in _lines(run, row, meter_event_id, decision_id, place, kind)]
    db.write_many("append_entry", link_entries_txn(db, lines))
    if kind is not EntryKind.REVERSAL:
        for row in covered:
            db.write(
                "waive", amount_micros=row["amount_micros"], project_id=row["project_id"], trace_id=row["trace_id"]
            )
    _restore_carry_txn(db, event)
    db.write("set_state", meter_event_id=meter_event_id, state=State.CANCELLED, reason=event["reason"])
    db.write("owe_marks", meter_event_id=meter_event_id)
    return sum(row["amount_micros"] for row in covered)


def _lines(
    run: RunRef, row: Row, meter_event_id: str, decision_id: int, place: Place | None, kind: EntryKind
) -> list[AppendEntry]:
    """What takes a trace's share of a meter event back, and what enters it anew."""
    back = _line(run, row, kind, -row["amount_micros"], decision_id)._replace(meter_event_id=meter_event_id)
    if place is None:
        return [back]
    anew = _line(run, row, EntryKind.REBOOKING, row["amount_micros"], decision_id)
    moved = anew._replace(
        sequence=anew.sequence + 1,
        customer_id=place.customer_id or anew.customer_id,
        timestamp_us=place.timestamp_us,
        bucket_start_us=place.bucket_start_us,
        bucket_end_us=place.bucket_end_us,
    )
    return [back, moved]


def _line(run: RunRef, row: Any, kind: EntryKind, amount_micros: int, decision_id: int) -> AppendEntry:
    return AppendEntry(
        0,
        row["project_id"],
        row["trace_id"],
        row["meter"],
        row["entries"],
        kind,
        row["customer_id"],
        amount_micros,
        row["timestamp_us"],
        row["bucket_start_us"],
        row["bucket_end_us"],
        row["bucket_key"],
        row["card_digest"],
        "{}",
        run.run_id,
        run.now_us,
        decision_id=decision_id,
    )


def _restore_carry_txn(db: Database, event: Row) -> None:
    lane = {"customer_id": event["customer_id"], "meter": event["meter"]}
    carry_micros = db.row("carry_of", **lane)["amount_micros"]
    given_micros = event["carry_after_micros"] - event["carry_before_micros"]
    db.write("put_carry", **lane, amount_micros=carry_micros - given_micros)
