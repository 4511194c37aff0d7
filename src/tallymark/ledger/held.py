"""What a person decides about meter events that wait: sent as they are, moved, waived, or billed by an invoice item.

Each decision is a line of its own, committed together with everything that it causes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.choices import Choice, choices_of_meter_event
from ..core.decisions import EntryKind
from ..core.states import CANCELLING, State
from ..core.windows import is_too_old
from ..errors import ConfigError
from ..failpoints import Step
from .corrections import Decided, Place, put_decision_txn, withdraw_txn
from .database import Database, Row
from .ledger import Ledger
from .rows import RunRef

_encode = msgspec.json.Encoder().encode

VERBS = {
    Choice.AS_IS: "release",
    Choice.BILL_NOW: "bill_now",
    Choice.INVOICE_ITEM: "invoice_item",
    Choice.ASSIGN: "assign",
    Choice.WAIVE: "waive",
    Choice.ARRIVED: "settle",
    Choice.NOT_SENT: "settle",
}


@dataclass(frozen=True, slots=True)
class Word:
    """A person's word: what is to be done, who says so, and why. `place` is where usage is entered anew, if it is."""

    choice: Choice
    who: str
    why: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Invoicing:
    """An invoice item that was begun for a meter event: the decision, and what it is to say (JSON text)."""

    meter_event_id: str
    decision_id: int
    detail: str


def meter_event_choices(ledger: Ledger, event: Row, now_us: int) -> tuple[Choice, ...]:
    """What may be decided about a meter event now."""
    return _choices(event, now_us, open_invoicing(ledger, event["meter_event_id"]) is not None)


def decide_meter_events(ledger: Ledger, run: RunRef, word: Word, meter_event_ids: Sequence[str]) -> list[int]:
    """Carry out one word on some meter events, all or none; the numbers of the decisions.

    Raises ConfigError if one of them is not open to it, which another process may have caused meanwhile.
    """
    with ledger.transaction(Step.DECIDE_HELD) as db:
        return [_decide_txn(db, run, word, one) for one in meter_event_ids]


def begin_invoicing(ledger: Ledger, run: RunRef, word: Word, meter_event_id: str, detail: str) -> Invoicing:
    """Decide that a meter event is billed by an invoice item, before Stripe is asked; repeated, it is one decision."""
    with ledger.transaction(Step.BEGIN_INVOICING) as db:
        if (
            begun := _open_invoicing(db.row("open_invoicing", meter_event_id=meter_event_id), meter_event_id)
        ) is not None:
            return begun
        event = _open_txn(db, meter_event_id, word.choice, run.now_us)
        number = put_decision_txn(db, run.now_us, _decided(word, event, detail))
        return Invoicing(meter_event_id, number, detail)


def finish_invoicing(ledger: Ledger, run: RunRef, invoicing: Invoicing, invoice_item_id: str) -> None:
    """Take a meter event's usage back as invoiced: Stripe has the invoice item."""
    with ledger.transaction(Step.FINISH_INVOICING) as db:
        event = db.row("meter_event", meter_event_id=invoicing.meter_event_id)
        if event["state"] == State.CANCELLED:
            return
        withdraw_txn(db, run, invoicing.meter_event_id, invoicing.decision_id, None, EntryKind.INVOICED)
        answer = f"billed by invoice item {invoice_item_id} (decision {invoicing.decision_id})"
        db.write("put_answer", meter_event_id=invoicing.meter_event_id, answer=answer, now_us=run.now_us)


def refuse_invoicing(ledger: Ledger, run: RunRef, invoicing: Invoicing, said: str) -> None:
    """Note that Stripe will not make the invoice item, so that something else can be decided."""
    with ledger.transaction(Step.FINISH_INVOICING) as db:
        why = f"Stripe refused the invoice item of decision {invoicing.decision_id}: {said}"
        put_decision_txn(
            db, run.now_us, Decided("tallymark", "refused", "meter_event", invoicing.meter_event_id, 0, why)
        )


def open_invoicing(ledger: Ledger, meter_event_id: str) -> Invoicing | None:
    """The invoice item that was begun for a meter event and not finished, if there is one."""
    found = next(iter(ledger.query("open_invoicing", meter_event_id=meter_event_id)), None)
    return _open_invoicing(found, meter_event_id)


def _open_invoicing(row: Row | None, meter_event_id: str) -> Invoicing | None:
    return Invoicing(meter_event_id, row["decision_id"], row["detail"]) if row is not None else None


def _choices(event: Row, now_us: int, invoicing: bool) -> tuple[Choice, ...]:
    return choices_of_meter_event(
        event["state"],
        too_old=is_too_old(event["timestamp_s"] * 1_000_000, now_us),
        unanswered=event["unanswered_since_us"] is not None,
        reported=_is_reported(event),
        invoicing=invoicing,
    )


def _open_txn(db: Database, meter_event_id: str, choice: Choice, now_us: int) -> Row:
    """The meter event, if it is open to a choice. Raises ConfigError."""
    event: Row = db.row("meter_event", meter_event_id=meter_event_id)
    open_to = _choices(event, now_us, db.row("open_invoicing", meter_event_id=meter_event_id) is not None)
    if choice not in open_to:
        options = " or ".join(f"--{one}" if one is not Choice.WAIVE else "waive" for one in open_to)
        raise ConfigError(
            f"the meter event {meter_event_id} is {event['state'].replace('_', ' ')}: "
            + (f"it is open to {options}, not to {choice}." if open_to else "there is nothing to decide about it.")
        )
    return event


def _decided(word: Word, event: Row, detail: str = "{}") -> Decided:
    verb = "reissue" if word.choice is Choice.AS_IS and _is_reported(event) else VERBS[word.choice]
    amount_micros = event["entries_micros"]
    return Decided(word.who, verb, "meter_event", event["meter_event_id"], amount_micros, word.why, detail)


def _decide_txn(db: Database, run: RunRef, word: Word, meter_event_id: str) -> int:
    event = _open_txn(db, meter_event_id, word.choice, run.now_us)
    number = put_decision_txn(db, run.now_us, _decided(word, event, _detail(word)))
    _CARRY_OUT[word.choice](db, run, event, number, word.place)
    return number


def _detail(word: Word) -> str:
    """What a decision says besides who and why."""
    place = word.place.changes() if word.place else {}
    arrived = {"arrived": word.choice is Choice.ARRIVED} if VERBS[word.choice] == "settle" else {}
    return _encode({**place, **arrived}).decode()


def _is_reported(event: Row) -> bool:
    """Whether Stripe took a meter event and reported later that it did not count it: its identifier is used up."""
    return event["reported_at_us"] is not None


def _release_txn(db: Database, _run: RunRef, event: Row, number: int, _place: Place | None) -> None:
    name = "reissue" if _is_reported(event) else "release_held"
    db.write(name, meter_event_id=event["meter_event_id"], released_by=number)


def _move_txn(db: Database, run: RunRef, event: Row, number: int, place: Place | None) -> None:
    place = place or Place()
    withdraw_txn(db, run, event["meter_event_id"], number, place, EntryKind.REVERSAL)
    if place.customer_id is not None:
        db.write("reassign_traces", customer_id=place.customer_id, meter_event_id=event["meter_event_id"])


def _waive_txn(db: Database, run: RunRef, event: Row, number: int, _place: Place | None) -> None:
    withdraw_txn(db, run, event["meter_event_id"], number, None, EntryKind.WAIVER)


def _arrived_txn(db: Database, run: RunRef, event: Row, number: int, _place: Place | None) -> None:
    _settle_txn(db, run, event, State.ACCEPTED, f"it did arrive (decision {number})")
    db.write("owe_marks", meter_event_id=event["meter_event_id"])


def _not_sent_txn(db: Database, run: RunRef, event: Row, number: int, place: Place | None) -> None:
    """It is sent again; unless Stripe did take it back, which was the question: then it is entered anew."""
    if event["reason"] == CANCELLING:
        _move_txn(db, run, event, number, place)
    else:
        _settle_txn(db, run, event, State.PENDING, f"it did not arrive (decision {number})")


def _settle_txn(db: Database, run: RunRef, event: Row, state: State, answer: str) -> None:
    values = {"state": state, "reason": "", "answer": answer, "now_us": run.now_us}
    db.write("settle_doubt", meter_event_id=event["meter_event_id"], **values)


_CARRY_OUT: dict[Choice, Callable[[Database, RunRef, Any, int, Place | None], None]] = {
    Choice.AS_IS: _release_txn,
    Choice.BILL_NOW: _move_txn,
    Choice.ASSIGN: _move_txn,
    Choice.WAIVE: _waive_txn,
    Choice.ARRIVED: _arrived_txn,
    Choice.NOT_SENT: _not_sent_txn,
}
