"""Observations of traces, stored as they are read, until their trace is decided.

Observations of one trace lie in several pages, mixed with those of other traces, its root last. So what is read waits
in the ledger and not in memory: however many traces interleave, memory stays as it is (G6).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from ..core.decisions import Decision, Known, Outcome, TraceKey, key_of
from ..core.readings import Reading, merge, newest_units, trace_of
from ..core.types import Trace, Unit
from ..failpoints import Step
from . import rows as ledger_rows
from .database import Database
from .ledger import Ledger
from .rows import RunRef
from .storing import store_txn

_encode = msgspec.json.Encoder().encode


class Decide(Protocol):
    """Decides what becomes of traces."""

    def __call__(self, trace: Trace, known: Known | None, /) -> Decision:
        """Decide one trace."""
        ...

    def set_aside(self) -> None:
        """The last decision is not stored: its trace is decided again when all of it was read."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch of staged readings. `incomplete` ones need all of their observations first."""

    decisions: list[Decision]
    incomplete: list[str]
    last_trace_id: str


def stage(ledger: Ledger, run: RunRef, readings: Sequence[Reading], *, complete: bool = False) -> None:
    """Store a page of readings: merge each with what was staged before, and keep the newest version of every unit."""
    with ledger.transaction(Step.STAGE) as db:
        staged = {
            _key_of(row): _reading_of(row) for row in db.rows("staged", keys=_keys(readings), staged_by=run.staged_by)
        }
        merged = [_merged(staged.get((reading.project_id, reading.trace_id)), reading) for reading in readings]
        db.write_many("put_reading", [ledger_rows.put_reading(run, reading, complete) for reading in merged])
        units = [(reading, unit) for reading in readings for unit in newest_units(reading.units)]
        _put_stale_models_txn(db, readings, units)
        db.write_many("put_unit", [ledger_rows.put_unit(run, r.project_id, r.trace_id, unit) for r, unit in units])


def _put_stale_models_txn(db: Database, readings: Sequence[Reading], units: Sequence[tuple[Reading, Unit]]) -> None:
    """Note whose sums a new observation of a billed trace changes, since it may name another model."""
    billed = set(db.tuples("billed_among", keys=_keys(readings)))
    new = [
        (reading.project_id, reading.trace_id, unit.unit_id)
        for reading, unit in units
        if unit.model is not None and (reading.project_id, reading.trace_id) in billed
    ]
    if new:
        db.write("put_stale_models", units=_encode(new).decode())


def decide_staged(
    ledger: Ledger, run: RunRef, project_id: str, after_trace_id: str, decide: Decide, limit: int
) -> Batch | None:
    """Decide the next readings that this run staged, by trace id, in one transaction. None: there is none left."""
    with ledger.transaction(Step.DECIDE_STAGED) as db:
        place = {"project_id": project_id, "after_trace_id": after_trace_id, "staged_by": run.staged_by}
        rows = db.rows("readings", **place, limit=limit)
        if not rows:
            return None
        keys = _encode([_key_of(row) for row in rows]).decode()
        before = {_key_of(row): _reading_of(row) for row in db.rows("stored_readings", keys=keys)}
        units = _units_by_trace(db.tuples("observation_units", keys=keys))
        known = ledger.known_by_keys(keys)
        incomplete: list[str] = []

        def decided() -> Iterator[Decision]:
            for row in rows:
                key = _key_of(row)
                trace = _trace_of(row, before.get(key), units.get(key, []))
                decision = decide(trace, known.get(key))
                if _needs_all(row, known.get(key), decision):
                    incomplete.append(row["trace_id"])
                    decide.set_aside()
                else:
                    yield decision

        decisions = store_txn(db, run, decided())
        deleted = [ledger_rows.DeleteReading(*key_of(d.trace), run.staged_by) for d in decisions]
        db.write_many("delete_reading", deleted)
        return Batch(decisions, incomplete, rows[-1]["trace_id"])


def _needs_all(row: Any, known: Known | None, decision: Decision) -> bool:
    """Whether a part of a trace is seen that says too little: then all of its observations are read.

    A new trace without its root may have begun before what was read. One that was last read as a whole may lack other
    parts, unless its root is there and it all comes to what was billed.
    """
    if row["complete"]:
        return False
    if known is None:
        return not row["root_seen"]
    if known.generation != "traces":
        return False
    same = decision.outcome == Outcome.BILLED and decision.worth_micros is not None and not decision.entries
    return not (same and row["root_seen"])


def put_score_marks(ledger: Ledger, run: RunRef, keys: Iterable[TraceKey]) -> None:
    """Note which traces the server says carry the score of a mark."""
    with ledger.transaction(Step.PUT_SCORE_MARKS) as db:
        db.write_many("put_score_mark", [ledger_rows.PutScoreMark(*key, run.run_id) for key in keys])


def score_marks(ledger: Ledger, keys: Sequence[TraceKey]) -> set[TraceKey]:
    """Which of some traces the server said to carry the score of a mark."""
    rows = ledger.query("score_marks", keys=_encode(keys).decode())
    return {_key_of(row) for row in rows}


def owe_lost_score_marks(
    ledger: Ledger, run: RunRef, project_id: str, from_us: int, to_us: int, written_before_us: int
) -> int:
    """Owe marks by score again that this run did not find at the server. How many."""
    with ledger.transaction(Step.OWE_LOST_MARKS) as db:
        return db.write(
            "lost_score_marks",
            project_id=project_id,
            from_us=from_us,
            to_us=to_us,
            written_before_us=written_before_us,
            run_id=run.run_id,
        )


def _trace_of(row: Any, before: Reading | None, units: Sequence[Unit]) -> Trace:
    reading = _reading_of(row)
    if before is not None:
        reading = merge(before, reading)
    if row["scored"] is not None:
        reading = replace(reading, marked=",".join(sorted({*reading.marked.split(","), "score"} - {""})))
    return trace_of(reading, units)


def _merged(staged: Reading | None, reading: Reading) -> Reading:
    return merge(staged, reading) if staged is not None else reading


def _units_by_trace(rows: Iterable[tuple[Any, ...]]) -> Mapping[TraceKey, list[Unit]]:
    found: dict[TraceKey, list[Unit]] = {}
    for project_id, trace_id, unit_id, cost, *rest in rows:
        unit = Unit(unit_id, Decimal(cost) if cost is not None else None, None, *rest)
        found.setdefault((project_id, trace_id), []).append(unit)
    return found


def unit_of(row: Any) -> Unit:
    """An observation from its row."""
    cost = row["cost_usd"]
    return Unit(
        row["unit_id"],
        Decimal(cost) if cost is not None else None,
        None,
        row["tokens"],
        row["model"],
        row["problem"],
        row["start_us"],
        row["end_us"],
        row["updated_at_us"],
    )


def _key_of(row: Any) -> TraceKey:
    return row["project_id"], row["trace_id"]


def _keys(readings: Iterable[Reading]) -> str:
    return _encode([(reading.project_id, reading.trace_id) for reading in readings]).decode()


def _reading_of(row: Any) -> Reading:
    return Reading(
        row["project_id"],
        row["trace_id"],
        row["timestamp_us"],
        (),
        bool(row["root_seen"]),
        bool(row["dated_by_trace"]),
        row["name"],
        row["user_id"],
        row["session_id"],
        row["release"],
        row["version"],
        row["environment"],
        bool(row["public"]),
        bool(row["bookmarked"]),
        tuple(msgspec.json.decode(row["tags"])),
        msgspec.json.decode(row["attributes"]),
        row["marked"],
    )
