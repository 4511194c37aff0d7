"""Pre-aggregated meters: of each of their windows Stripe counts the meter event that it received last.

Such a meter is sent running totals: a send sets its window to all that is accepted in it, and what is sent. So a send
that is repeated changes nothing, at any age, as long as no older total follows a newer one (ledger/sending.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.clock import DAY_US, SECOND_US
from ..core.ids import idempotency_key, sent_identifier
from ..core.states import Answer, WindowTotal
from ..failpoints import Step
from .database import Database, Row

if TYPE_CHECKING:
    from .ledger import Ledger

NOT_TAKEN = (Answer.REJECTED, Answer.THROTTLED)
"""Answers after which a send has certainly set nothing."""


def meter_windows(ledger: Ledger) -> dict[str, int]:
    """How long the windows of the meters are that are sent running totals, in seconds, by event name."""
    return {row["meter"]: row["window_s"] for row in ledger.query("meter_windows")}


def put_meter_windows(ledger: Ledger, found: Mapping[str, int | None]) -> None:
    """Store what some meters were found to be: the seconds of their windows, None for one that counts everything."""
    known = meter_windows(ledger)
    changed = {meter: window_s for meter, window_s in found.items() if known.get(meter) != window_s}
    if not changed:
        return
    with ledger.transaction(Step.PUT_FACT) as db:
        for meter, window_s in changed.items():
            if window_s is None:
                db.write("delete_meter_window", meter=meter)
            else:
                db.write("put_meter_window", meter=meter, window_s=window_s)


def meter_windows_txn(db: Database) -> dict[str, int]:
    """As `meter_windows`, inside the caller's transaction."""
    return {row["meter"]: row["window_s"] for row in db.rows("meter_windows")}


def window_place(start_s: int, end_s: int) -> dict[str, int]:
    """A stretch of time as parameters of statements that look for the meter events that are dated in it.

    Their buckets are at most a day long, and begin at most a day after that date (core.periods.dated_us).
    """
    start_us, end_us = start_s * SECOND_US, end_s * SECOND_US
    return {
        "start_s": start_s,
        "end_s": end_s,
        "buckets_from_us": start_us - DAY_US,
        "buckets_to_us": end_us + DAY_US,
    }


def _window_of(row: Row, window_s: int) -> dict[str, int]:
    """The window that a meter event is dated in, as `window_place` has it."""
    start_s = row["timestamp_s"] - row["timestamp_s"] % window_s
    return window_place(start_s, start_s + window_s)


def total_txn(db: Database, row: Row, window_s: int | None) -> WindowTotal | None:
    """What a meter event sets its window to: all that is accepted in it, and itself; None if it adds to what is there.

    Dated by the latest usage in it, so that a window never goes back to an earlier billing period.
    """
    if window_s is None:
        return None
    place = _window_of(row, window_s)
    counted = db.row("counted_in_window", customer_id=row["customer_id"], meter=row["meter"], **place)
    timestamp_s = max(row["timestamp_s"], counted["timestamp_s"])
    return WindowTotal(counted["credits"] + row["credits"], place["start_s"], place["end_s"], timestamp_s)


def issue_txn(db: Database, row: Row, total: WindowTotal | None) -> int:
    """Which issue of a meter event is sent next.

    If a send that may have arrived said another total, this one is another meter event: under the same identifier
    Stripe would take it for that one, and drop it.
    """
    reissue: int = row["reissue"]
    if total is None or not row["attempt"]:
        return reissue
    identifier = sent_identifier(row["meter_event_id"], reissue)
    others = [
        sent
        for sent in db.rows("attempts_of", meter_event_id=row["meter_event_id"])
        if sent["idempotency_key"] == idempotency_key(identifier, sent["attempt"])
        and sent["outcome"] not in NOT_TAKEN
        and sent["window_total"] != total.credits
    ]
    return reissue + bool(others)


def later_totals_txn(db: Database, event: Row, windows: Mapping[str, int]) -> set[str]:
    """The meter events whose totals hold what a meter event brought into its window, and that Stripe may count."""
    window_s = windows.get(event["meter"])
    if window_s is None:
        return set()
    named = {name: event[name] for name in ("meter_event_id", "customer_id", "meter")}
    return {row["meter_event_id"] for row in db.rows("sent_later", **named, **_window_of(event, window_s))}
