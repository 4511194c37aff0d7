"""How open entries become meter events: value, identifier, timestamp and payload, fixed in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..core.clock import SECOND_US
from ..core.credits import split_whole_credits
from ..core.decisions import EntryKind
from ..core.ids import meter_event_id
from ..core.periods import Lateness, begun_in_window_us, boundaries_of, closed_before, dated_us, parts
from ..core.states import State
from ..core.types import Reason
from ..core.windows import is_too_old
from .corrections import Decided, Place, put_decision_txn, withdraw_txn
from .database import Database, Row
from .meter_windows import meter_windows_txn, window_place
from .periods import periods_txn
from .rows import RunRef

_encode = msgspec.json.Encoder().encode
PLACE = ("customer_id", "meter", "bucket_start_us", "bucket_end_us", "bucket_key")
"""What makes a bucket."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Open entries of a bucket, or of one side of a period's boundary inside it."""

    bucket: Mapping[str, Any]
    start_us: int
    end_us: int
    entries_micros: int
    lowest_micros: int
    timestamp_us: int

    @property
    def place(self) -> dict[str, Any]:
        """What its meter event covers."""
        return {**self.bucket, "bucket_start_us": self.start_us, "bucket_end_us": self.end_us}

    @property
    def entries(self) -> dict[str, Any]:
        """What names its entries."""
        return {**self.bucket, "part_start_us": self.start_us, "part_end_us": self.end_us}


def gather_txn(db: Database, run: RunRef, ledger_id: str, limit: int, lateness: Lateness) -> int:
    """Fix meter events for up to `limit` open buckets, each split at the boundaries of periods. How many buckets.

    What is too late for its invoice, or too old for Stripe, is held and not to be sent.
    """
    buckets, windows = db.rows("open_buckets", limit=limit), meter_windows_txn(db)
    known: dict[tuple[str, str], list[int]] = {}
    for bucket in buckets:
        lane = bucket["customer_id"], bucket["meter"]
        if lane not in known:
            known[lane] = boundaries_of(periods_txn(db, *lane))
        closed_us = closed_before(known[lane], lateness.final_us(run.now_us))
        for part in _parts_txn(db, bucket, known[lane]):
            if part.lowest_micros >= 0 or not _withdraw_uncounted_txn(db, run, part):
                part, is_cut = _dated_txn(db, part, windows.get(bucket["meter"]), known[lane])
                held_reason = _held_reason(part, closed_us, run.now_us) or (Reason.WINDOW_CUT if is_cut else "")
                _fix_txn(db, run, ledger_id, part, held_reason)
    return len(buckets)


def _parts_txn(db: Database, row: Row, boundaries: Sequence[int]) -> Iterator[_Part]:
    bucket = {name: row[name] for name in PLACE}
    cut = parts(row["bucket_start_us"], row["bucket_end_us"], boundaries)
    for start_us, end_us in cut:
        found = row
        if len(cut) > 1:
            found = db.row("open_part", **bucket, part_start_us=start_us, part_end_us=end_us)
        if found is not None:
            sums = found["entries_micros"], found["lowest_micros"], found["timestamp_us"]
            yield _Part(bucket, start_us, end_us, *sums)


def _held_reason(part: _Part, closed_us: int, now_us: int) -> str:
    """Why a meter event of this part must wait for a person; empty if it may be sent. Its timestamp decides."""
    if is_too_old(part.timestamp_us, now_us):
        return Reason.TOO_OLD
    return Reason.LATE_PERIOD if part.timestamp_us < closed_us else ""


def _dated_txn(db: Database, part: _Part, window_s: int | None, boundaries: Sequence[int]) -> tuple[_Part, bool]:
    """A part, dated so that its window at Stripe belongs to one billing period; and whether that cannot be.

    It cannot if that window was begun in the period before: Stripe would move what is counted there to the new one.
    """
    if window_s is None:
        return part, False
    moment_us = dated_us(part.timestamp_us, window_s * SECOND_US, boundaries)
    if moment_us is None:
        return part, True
    begun_us = begun_in_window_us(moment_us, window_s * SECOND_US, boundaries)
    is_cut = begun_us is not None and _is_begun_txn(db, part, window_s, begun_us // SECOND_US)
    return replace(part, timestamp_us=moment_us), is_cut


def _is_begun_txn(db: Database, part: _Part, window_s: int, before_s: int) -> bool:
    """Whether anything that counts, or may still, is dated in a window before a moment inside it."""
    place = window_place(before_s - before_s % window_s, before_s)
    lane = {"customer_id": part.bucket["customer_id"], "meter": part.bucket["meter"]}
    return bool(db.row("under_way_in_window", **lane, **place)["meter_events"])


def _withdraw_uncounted_txn(db: Database, run: RunRef, part: _Part) -> bool:
    """Let usage that came to less lower what waits of its trace before it lowers anything else. Whether any waits.

    What was withdrawn is open again, and gathered together with the lower usage.
    """
    waiting = db.rows("uncounted_at", **part.place)
    for event in waiting:
        decided = Decided(
            "tallymark",
            "correct",
            "meter_event",
            event["meter_event_id"],
            event["entries_micros"],
            "a trace in it came to less before it was counted",
        )
        number = put_decision_txn(db, run.now_us, decided)
        withdraw_txn(db, run, event["meter_event_id"], number, Place(), EntryKind.REVERSAL)
    return bool(waiting)


def _fix_txn(db: Database, run: RunRef, ledger_id: str, part: _Part, held_reason: str) -> None:
    place, lane = part.place, {"customer_id": part.bucket["customer_id"], "meter": part.bucket["meter"]}
    carry_row = db.row("carry_of", **lane)
    carry_before = carry_row["amount_micros"] if carry_row else 0
    credits, carry_after = split_whole_credits(carry_before + part.entries_micros)
    revision = db.row("next_revision", **place)["revision"]
    identifier = meter_event_id(ledger_id, **place, revision=revision)
    state = State.CARRIED if not credits else State.HELD if held_reason else State.PENDING
    db.write(
        "put_meter_event",
        **place,
        meter_event_id=identifier,
        revision=revision,
        # The latest usage in the bucket: inside the bucket, never ahead of now, and the last to grow too old; or, of a
        # pre-aggregated meter, before its window.
        timestamp_s=part.timestamp_us // SECOND_US,
        credits=credits,
        entries_micros=part.entries_micros,
        carry_before_micros=carry_before,
        carry_after_micros=carry_after,
        payload=_payload_txn(db, part.bucket),
        state=state,
        reason=held_reason if state is State.HELD else "",
        now_us=run.now_us,
        run_id=run.run_id,
    )
    db.write("cover_entries", **part.entries, meter_event_id=identifier)
    db.write("put_carry", **lane, amount_micros=carry_after)
    if not credits:
        db.write("owe_marks", meter_event_id=identifier)


def _payload_txn(db: Database, bucket: Mapping[str, Any]) -> str:
    """What a meter event says besides customer and value: in trace buckets, the trace and its components."""
    if not bucket["bucket_key"]:
        return "{}"
    row = db.row("trace_of_bucket", **bucket)
    return _encode(_trace_payload(row)).decode() if row else "{}"


def _trace_payload(row: Row) -> dict[str, str]:
    """Payload values are text of at most 100 characters (facts/stripe.md section 1); longer ids are left out."""
    parts = msgspec.json.decode(row["components"]).get("parts", [])
    payload = {"trace_id": row["trace_id"], "user_id": row["user_id"] or ""}
    payload |= {f"{part['name']}_credits": part["credits"] for part in parts}
    return {name: value for name, value in payload.items() if 0 < len(value) <= 100}
