"""Store what was decided: rows are made in this thread while another writes those that were made before.

A database needs no Python while it works, and storing takes as long as deciding: side by side they take half the time
(docs/adr/0044). All of it is one transaction of the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from .. import machine
from ..core.decisions import Decision, EntryKind, NewEntry, Outcome, TraceKey, key_of
from . import rows
from .chain import EntryChain
from .database import Database, NamedRow
from .rows import RunRef

# Few enough that the first are soon written, and many enough that handing over costs little.
PART_ROWS = 400
T = TypeVar("T")


Part = Mapping[str, Sequence[NamedRow]]
"""Rows of some decisions, by the statement that writes them, in the order of writing."""


def store_txn(db: Database, run: RunRef, decisions: Iterable[Decision]) -> list[Decision]:
    """Store decisions, which may be made one by one meanwhile, inside the caller's transaction; returns them.

    Making one may read the ledger, but must not write: of its own trace it sees what was there before.
    """
    chain, stored, stale = EntryChain(db), [], set[rows.PutStaleUsage]()

    def parts() -> Iterator[Part]:
        source = iter(decisions)
        while part := list(islice(source, PART_ROWS)):
            stored.extend(part)
            yield _part_of(db, run, part, chain, stale)

    _write_beside(parts(), lambda part: _write(db, part))
    chain.put_head_txn()
    return stored


def _write_beside(parts: Iterable[T], write: Callable[[T], None]) -> None:
    """Write each part in another thread while the next is made. After one that failed none is written any more."""
    with machine.current().pool(1, "store") as writer:
        written: Iterator[None] = iter(())
        for part in parts:
            # Raises what went wrong with the part before, whose transaction is over then.
            list(written)
            written = writer.map(write, [part])
        list(written)


def _write(db: Database, part: Part) -> None:
    for name, lines in part.items():
        db.write_many(name, lines)


def _part_of(
    db: Database, run: RunRef, decisions: Sequence[Decision], chain: EntryChain, stale: set[rows.PutStaleUsage]
) -> Part:
    changed = [decision for decision in decisions if decision.worth_micros is not None]
    new_stale = {rows.put_stale_usage(decision) for decision in changed if _is_billed_to_someone(decision)} - stale
    stale |= new_stale
    return {
        "put_trace": [rows.put_trace(run, decision) for decision in changed],
        "touch_trace": [rows.touch_trace(run, decision) for decision in decisions if decision.worth_micros is None],
        "append_entry": chain.link([row for decision in changed for row in _entries_txn(db, run, decision)]),
        "put_stale_usage": sorted(new_stale),
    }


def _is_billed_to_someone(decision: Decision) -> bool:
    return decision.outcome == Outcome.BILLED and decision.customer is not None


def _entries_txn(db: Database, run: RunRef, decision: Decision) -> list[rows.AppendEntry]:
    """The entries of a decision as rows. A charge is the first of its trace; only an adjustment has to count."""
    if not decision.entries:
        return []
    key = key_of(decision.trace)
    if all(entry.kind == "charge" for entry in decision.entries):
        return [rows.append_entry(run, key, entry, 0) for entry in decision.entries]
    return _adjustments_txn(db, run, key, decision.entries)


def _adjustments_txn(db: Database, run: RunRef, key: TraceKey, entries: Iterable[NewEntry]) -> list[rows.AppendEntry]:
    """Further lines of a trace; one of kind waiver ends so much of an earlier waiver."""
    billed = db.rows("billed_by_meter", project_id=key[0], trace_id=key[1])
    sequences = Counter({row["meter"]: row["entries"] for row in billed})
    lines = []
    for entry in entries:
        lines.append(rows.append_entry(run, key, entry, sequences[entry.meter]))
        sequences[entry.meter] += 1
        if entry.kind == EntryKind.WAIVER:
            db.write("waive", amount_micros=-entry.amount_micros, project_id=key[0], trace_id=key[1])
    return lines
