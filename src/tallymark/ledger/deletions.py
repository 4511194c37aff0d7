"""Billed traces that are gone in Langfuse: found by what a whole read did not meet, and given back or held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.choices import DELETED, Choice
from ..core.decisions import EntryKind, TraceKey
from ..core.windows import bucket_of
from ..errors import ConfigError
from ..failpoints import Step
from .chain import link_entries_txn
from .corrections import put_decision_txn
from .database import Database, Row
from .held import Word
from .ledger import Ledger
from .rows import AppendEntry, RunRef
from .rulings import decided_of_trace


@dataclass(frozen=True, slots=True)
class ReadRange:
    """A range of a project that a run has read as a whole, through one generation; in microseconds, the end outside."""

    project_id: str
    generation: str
    from_us: int
    to_us: int
    run_id: str

    def unseen(self, ledger: Ledger, after_trace_id: str, limit: int) -> list[str]:
        """The next billed traces that the run did not meet, in the order of their ids."""
        rows = ledger.query("unseen", **self._place(), after_trace_id=after_trace_id, limit=limit)
        return [row["trace_id"] for row in rows]

    def deleted(self, ledger: Ledger, after_trace_id: str, limit: int) -> list[str]:
        """The next billed traces that wait because they are gone, in the order of their ids."""
        rows = ledger.query("deleted_in", **self._place(), after_trace_id=after_trace_id, limit=limit)
        return [row["trace_id"] for row in rows]

    def sums(self, ledger: Ledger) -> Row:
        """How many billed traces are `kept` and `deleted`, and the oldest of each (`oldest_kept_us`, …; or None)."""
        return next(iter(ledger.query("kept_and_deleted", **self._place())))

    def _place(self) -> dict[str, str | int]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def credit_deleted(ledger: Ledger, run: RunRef, keys: Sequence[TraceKey], bucket: str) -> int:
    """Give back what traces were billed that are gone, in their own buckets; the micro-credits given back."""
    with ledger.transaction(Step.PUT_DELETED) as db:
        return sum(_credit_txn(db, run, key, bucket, None) for key in keys)


def note_deleted(ledger: Ledger, run: RunRef, keys: Sequence[TraceKey], *, held: bool) -> None:
    """Note that billed traces are gone; what they were billed stays, and, if `held`, waits for a person."""
    with ledger.transaction(Step.PUT_DELETED) as db:
        for key in keys:
            _put_deleted_txn(db, run, key, DELETED if held else "", _billed_txn(db, key)["billed_micros"])


def decide_deleted(ledger: Ledger, run: RunRef, word: Word, keys: Sequence[TraceKey], bucket: str) -> list[int]:
    """Carry out one word on traces that wait because they are gone: waive gives back, as-is leaves them billed.

    Raises ConfigError if one of them does not wait. The numbers of the decisions.
    """
    with ledger.transaction(Step.DECIDE_HELD) as db:
        return [_decide_txn(db, run, word, key, bucket) for key in keys]


def _decide_txn(db: Database, run: RunRef, word: Word, key: TraceKey, bucket: str) -> int:
    trace = _billed_txn(db, key)
    if trace["reason"] != DELETED:
        raise ConfigError(f"the trace {key[1]} is not held: there is nothing to decide about it.")
    number = put_decision_txn(db, run.now_us, decided_of_trace(word, key, trace["billed_micros"]))
    if word.choice is Choice.WAIVE:
        _credit_txn(db, run, key, bucket, number)
    else:
        _put_deleted_txn(db, run, key, "", trace["billed_micros"])
    return number


def _billed_txn(db: Database, key: TraceKey) -> Row:
    trace: Row = db.row("billed_trace", project_id=key[0], trace_id=key[1])
    return trace


def _credit_txn(db: Database, run: RunRef, key: TraceKey, bucket: str, decision_id: int | None) -> int:
    trace = _billed_txn(db, key)
    paid = [row for row in db.rows("creditable", project_id=key[0], trace_id=key[1]) if row["amount_micros"] > 0]
    lines = [_line(run, key, trace, row, bucket, decision_id) for row in paid]
    db.write_many("append_entry", link_entries_txn(db, lines))
    credited_micros: int = sum(row["amount_micros"] for row in paid)
    _put_deleted_txn(db, run, key, "", trace["billed_micros"] - credited_micros)
    return credited_micros


def _line(run: RunRef, key: TraceKey, trace: Row, paid: Row, bucket: str, decision_id: int | None) -> AppendEntry:
    start_us, end_us = bucket_of(trace["timestamp_us"], bucket)
    return AppendEntry(
        0,
        *key,
        paid["meter"],
        paid["entries"],
        EntryKind.ADJUSTMENT,
        trace["customer_id"],
        -paid["amount_micros"],
        trace["timestamp_us"],
        start_us,
        end_us,
        "/".join(key) if bucket == "trace" else "",
        paid["card_digest"],
        "{}",
        run.run_id,
        run.now_us,
        decision_id=decision_id,
    )


def _put_deleted_txn(db: Database, run: RunRef, key: TraceKey, reason: str, billed_micros: int) -> None:
    db.write(
        "put_deleted",
        project_id=key[0],
        trace_id=key[1],
        now_us=run.now_us,
        reason=reason,
        billed_micros=billed_micros,
    )
