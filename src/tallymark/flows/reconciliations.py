"""Reconciliations that were made: the list, one report, its days by customer, and the rows behind a day.

Reads only the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from ..core.balance import Cause
from ..core.clock import DAY_US, SECOND_US, format_time
from ..core.credits import MICROS_PER_CREDIT, format_micros
from ..core.states import State
from ..core.text import without_nul
from ..errors import NotFound
from ..ledger import Ledger
from .customers import MeterEventLine, meter_event_line
from .paging import Listing, listing, read_cursor
from .ranges import moment_named
from .reconciliation import Line, Reconciliation

LATEST_US = 2**62
METER_EVENTS_MAX = 1500
"""More than a day has minutes; only where each trace is a bucket of its own there may be more."""


class ReconciliationLine(msgspec.Struct):
    """A reconciliation in a list. `total` is over all customers; `explained`: every difference has a cause."""

    run_id: str
    started_at: str
    finished_at: str
    from_: str = msgspec.field(name="from")
    to: str
    by: str
    explained: bool
    total: Line


class DayLine(msgspec.Struct):
    """One customer, meter and UTC day of a reconciliation, in credits: stripe = langfuse + the sum of differences.

    `stripe` is null where nothing was sent, so that Stripe was not asked. `customer` is empty for usage of nobody.
    """

    day: str
    customer: str
    meter: str
    langfuse: str
    entries: str
    accepted: str
    stripe: str | None
    differences: dict[str, str]


class DayTrace(msgspec.Struct):
    """What the ledger's lines of a trace come to on a day."""

    trace_id: str
    project_id: str
    time: str
    credits: str
    entries: int


class DayRows(msgspec.Struct):
    """The rows behind a day: traces in pages, whose lines come to `total.entries` as they stood when it was compared.

    `accepted_now` is what its meter events that are accepted by now come to: `total.accepted`, unless one moved since.
    """

    run_id: str
    total: DayLine
    entries: str
    lines: int
    traces: list[DayTrace]
    next: str | None
    meter_events: list[MeterEventLine]
    accepted_now: str


class _Head(msgspec.Struct):
    """What a list needs of a summary."""

    from_: str = msgspec.field(name="from")
    to: str
    by: str
    explained: bool
    total: Line


def reconciliations(ledger: Ledger, limit: int, cursor: str | None = None) -> Listing[ReconciliationLine]:
    """Those that ended, the newest first. Raises ConfigError for a cursor that is none."""
    before_us, before_id = (LATEST_US, "") if cursor is None else read_cursor(cursor, int, str)
    place = {"before_us": max(-LATEST_US, min(before_us, LATEST_US)), "before_id": without_nul(before_id)}
    rows = list(ledger.query("reconciliations", **place, limit=limit + 1))
    return listing(rows, limit, _listed, lambda row: (row["started_at_us"], row["run_id"]))


def _listed(row: Any) -> ReconciliationLine:
    head = msgspec.json.decode(row["summary"], type=_Head)
    times = (format_time(row["started_at_us"]), format_time(row["finished_at_us"]))
    return ReconciliationLine(row["run_id"], *times, head.from_, head.to, head.by, head.explained, head.total)


def reconciliation(ledger: Ledger, run_id: str) -> Reconciliation:
    """The report of one. Raises NotFound."""
    row = next(iter(ledger.query("reconciliation", run_id=without_nul(run_id))), None)
    if row is None:
        raise NotFound(
            f"the ledger has no reconciliation {run_id!r:.80} that ended; make one with `tallymark reconcile`."
        )
    return msgspec.json.decode(row["summary"], type=Reconciliation)


def compared(ledger: Ledger, run_id: str, customer_id: str | None = None) -> list[DayLine]:
    """Its days, of one customer ('' is nobody) or all, the earliest first; none for one of before they were kept."""
    rows = ledger.query("compared_days", run_id=without_nul(run_id))
    return [_day(row) for row in rows if customer_id is None or row["customer_id"] == customer_id]


def compared_page(
    ledger: Ledger, run_id: str, customer_id: str | None, limit: int, cursor: str | None = None
) -> Listing[DayLine]:
    """The same in pages. Raises NotFound, and ConfigError for a cursor that is none."""
    reconciliation(ledger, run_id)
    found = compared(ledger, run_id, customer_id)
    if cursor is not None:
        after = read_cursor(cursor, str, str, str)
        found = [day for day in found if (day.day, day.customer, day.meter) > after]
    return listing(found, limit, lambda day: day, lambda day: (day.day, day.customer, day.meter))


def _day(row: Any) -> DayLine:
    differences = msgspec.json.decode(row["differences"], type=dict[str, int])
    return DayLine(
        format_time(row["day_us"])[:10],
        row["customer_id"],
        row["meter"],
        format_micros(row["langfuse_micros"]),
        format_micros(row["entries_micros"]),
        format_micros(row["accepted_micros"]),
        None if row["stripe_micros"] is None else format_micros(row["stripe_micros"]),
        {cause: format_micros(micros) for cause, micros in differences.items()},
    )


def differs(day: DayLine) -> bool:
    """Whether more than the carry differs."""
    return any(cause != Cause.CARRY for cause in day.differences)


# ---- the rows behind a day


def day_rows(
    ledger: Ledger, run_id: str, customer_id: str, meter: str, day: str, limit: int, cursor: str | None = None
) -> DayRows:
    """What a day of a reconciliation rests on. Raises NotFound for a day that it does not have."""
    report = reconciliation(ledger, run_id)
    days = [each for each in compared(ledger, run_id, customer_id) if (each.meter, each.day) == (meter, day)]
    if not days:
        raise NotFound(f"reconciliation {run_id} has no day {day!r:.20} of {customer_id!r:.80} and {meter!r:.80}.")
    from_us = moment_named(day) or 0
    place = {"customer_id": customer_id, "meter": meter, "from_us": from_us, "to_us": from_us + DAY_US}
    known = {**place, "last_entry_id": int(report.chain.partition(":")[0])}
    after = ("", "") if cursor is None else read_cursor(cursor, str, str)
    rows = list(ledger.query("traces_of_day", **known, after_project=after[0], after_trace=after[1], limit=limit + 1))
    total = next(iter(ledger.query("sum_of_day", **known)))
    seconds = {"from_s": from_us // SECOND_US, "to_s": (from_us + DAY_US) // SECOND_US}
    events = list(ledger.query("meter_events_of_day", **place, **seconds, limit=METER_EVENTS_MAX))
    page = listing(rows, limit, _trace, lambda row: (row["project_id"], row["trace_id"]))
    return DayRows(
        run_id,
        days[0],
        format_micros(total["amount_micros"]),
        total["entries"],
        page.items,
        page.next,
        [meter_event_line(row) for row in events],
        format_micros(_accepted_micros(events)),
    )


def _accepted_micros(events: Iterable[Any]) -> int:
    counted = Counter[str]()
    for row in events:
        counted[row["state"]] += row["credits"]
    return counted[State.ACCEPTED] * MICROS_PER_CREDIT


def _trace(row: Any) -> DayTrace:
    amount = format_micros(row["amount_micros"])
    return DayTrace(row["trace_id"], row["project_id"], format_time(row["timestamp_us"]), amount, row["entries"])
