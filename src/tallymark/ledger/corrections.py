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
    """Where withdrawn usage is entered anew; what is None stays as it was. Times in microseconds."""

    timestamp_us: int | None = None
    bucket_start_us: int | None = None
    bucket_end_us: int | None = None
    customer_id: str | None = None

    def changes(self) -> dict[str, Any]:
        """What is not as it was, by the columns of an entry."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}


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


def enter_anew_txn(db: Database, run: RunRef, now_us: int, decided: Decided) -> int:
    """Withdraw a meter event that Stripe took back, and enter its usage anew where it was; the decision's number."""
    number = put_decision_txn(db, now_us, decided)
    withdraw_txn(db, run, decided.subject, number, Place(), EntryKind.REVERSAL)
    answer = f"taken back by Stripe (decision {number})"
    db.write("put_answer", meter_event_id=decided.subject, answer=answer, now_us=now_us)
    return number


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
    for line in lines:
        if line.kind in (EntryKind.WAIVER, EntryKind.INVOICED):
            db.write("waive", amount_micros=-line.amount_micros, project_id=line.project_id, trace_id=line.trace_id)
    _restore_carry_txn(db, event)
    db.write("set_state", meter_event_id=meter_event_id, state=State.CANCELLED, reason=event["reason"])
    db.write("owe_marks", meter_event_id=meter_event_id)
    return sum(row["amount_micros"] for row in covered)


def _lines(
    run: RunRef, row: Row, meter_event_id: str, decision_id: int, place: Place | None, kind: EntryKind
) -> list[AppendEntry]:
    """What takes a trace's share of a meter event back, and what enters it anew.

    A waiver takes nothing from a customer: a share below zero is entered anew as it was.
    """
    if kind is EntryKind.WAIVER and row["amount_micros"] < 0:
        kind, place = EntryKind.REVERSAL, Place()
    back = _line(run, row, kind, -row["amount_micros"], decision_id)._replace(meter_event_id=meter_event_id)
    if place is None:
        return [back]
    anew = _line(run, row, EntryKind.REBOOKING, row["amount_micros"], decision_id)
    return [back, anew._replace(sequence=anew.sequence + 1, **place.changes())]


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
