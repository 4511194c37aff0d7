"""Traces: those that meet what somebody asks for, the newest first, in pages. Reads only the ledger, by its indexes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from ..core.choices import DELETED
from ..core.clock import format_time
from ..core.credits import format_micros
from ..core.decisions import Outcome
from ..core.types import HELD, SKIPPED
from ..errors import ConfigError
from ..ledger import Ledger
from .paging import ROWS_MAX, Listing, every, listing, read_cursor
from .ranges import check_range

# What a search may be meant as, in the order in which it is tried; the last reads the whole table.
MEANINGS = {
    "customer": "traces_of_customer",
    "user": "traces_of_user",
    "trace": "traces_beginning",
    "name": "traces_named",
}
BY_TIME, SET_ASIDE = "traces_by_time", "traces_set_aside"
OF_REASON: dict[str, Outcome] = {
    **dict.fromkeys(HELD, Outcome.HELD),
    **dict.fromkeys(SKIPPED, Outcome.SKIPPED),
    DELETED: Outcome.BILLED,
}
LATEST_US = 2**62
AFTER_ALL_IDS = "\U0010ffff"


class TraceLine(msgspec.Struct):
    """A trace in a list: what it is worth, and what of that was billed, less what was `waived` or billed otherwise.

    `outcome`: billed, skipped or held; `reason` and `detail` say why, and are empty for one that is billed and still
    there. `mark`: none, waiting (until Stripe has accepted it), owed, written or refused.
    """

    trace_id: str
    project_id: str
    time: str
    name: str | None
    user_id: str | None
    customer: str | None
    outcome: str
    reason: str
    detail: str
    worth: str
    billed: str
    waived: str
    mark: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; what is empty is not asked. `search` is a trace id or its beginning, a trace's name, a user id
    or a customer, by the first `MEANINGS` that finds something, or by the one that `meaning` names."""

    search: str = ""
    meaning: str = ""
    outcome: str = ""
    reason: str = ""
    customer_id: str = ""
    project_id: str = ""
    from_us: int | None = None
    to_us: int | None = None


def traces(ledger: Ledger, wanted: Wanted, limit: int, cursor: str | None = None) -> Listing[TraceLine]:
    """A page of the traces that meet everything that is asked. Raises ConfigError for what cannot be asked."""
    ways, place = _ways(wanted), _first(wanted)
    if cursor is not None:
        way, *after = read_cursor(cursor, str, int, str, str)
        if way not in ways:
            raise ConfigError("that cursor is of another search; begin without one.")
        ways, place = [way], _after(place, *after)
    for way in ways:
        rows = list(ledger.query(way, **_conditions(wanted, way, place), limit=limit + 1))
        if rows:
            return listing(rows, limit, _line, partial(_place_of, way))
    return Listing([], None)


def all_traces(ledger: Ledger, wanted: Wanted) -> Iterator[TraceLine]:
    """All of them, page by page."""
    return every(lambda cursor: traces(ledger, wanted, ROWS_MAX, cursor))


def _ways(wanted: Wanted) -> list[str]:
    """The statements that may find them, to be tried in this order."""
    check_range(wanted.from_us, wanted.to_us)
    if wanted.outcome and wanted.outcome not in tuple(Outcome):
        raise ConfigError(f"{wanted.outcome!r:.60} is no outcome; one is any of {', '.join(Outcome)}.")
    if wanted.meaning and wanted.meaning not in MEANINGS:
        raise ConfigError(f"{wanted.meaning!r:.60} is nothing to search by; that is any of {', '.join(MEANINGS)}.")
    if wanted.search:
        # A search for a customer, where another customer is asked for too, finds nothing by the customer's index.
        meanings = [wanted.meaning] if wanted.meaning else list(MEANINGS)
        return [MEANINGS[one] for one in meanings if one != "customer" or wanted.customer_id in ("", wanted.search)]
    if wanted.reason or wanted.outcome in (Outcome.HELD, Outcome.SKIPPED):
        return [SET_ASIDE]
    return [MEANINGS["customer"] if wanted.customer_id else BY_TIME]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins: behind this row."""

    until_us: int
    after_project: str = ""
    after_trace: str = ""


def _place_of(way: str, row: Any) -> tuple[str | int, ...]:
    return way, row["timestamp_us"], row["project_id"], row["trace_id"]


def _first(wanted: Wanted) -> _Place:
    return _Place(wanted.to_us - 1 if wanted.to_us is not None else LATEST_US)


def _after(first: _Place, timestamp_us: int, project_id: str, trace_id: str) -> _Place:
    return _Place(timestamp_us, project_id, trace_id) if timestamp_us <= first.until_us else first


def _conditions(wanted: Wanted, way: str, place: _Place) -> dict[str, Any]:
    """What the statement asks for; each reads those of these that it names."""
    customer_id = wanted.search if way == MEANINGS["customer"] and wanted.search else wanted.customer_id
    outcome = wanted.outcome or (OF_REASON.get(wanted.reason, "") if way == SET_ASIDE else "")
    return {
        "wanted": wanted.search,
        "wanted_end": wanted.search + AFTER_ALL_IDS,
        "outcome": outcome,
        "reason": wanted.reason,
        "customer_id": customer_id,
        "project_id": wanted.project_id,
        "from_us": wanted.from_us if wanted.from_us is not None else -LATEST_US,
        "until_us": place.until_us,
        "after_project": place.after_project,
        "after_trace": place.after_trace,
    }


def _line(row: Any) -> TraceLine:
    return TraceLine(
        row["trace_id"],
        row["project_id"],
        format_time(row["timestamp_us"]),
        row["name"],
        row["user_id"],
        row["customer_id"],
        row["outcome"],
        row["reason"],
        row["detail"],
        format_micros(row["worth_micros"]),
        format_micros(row["billed_micros"]),
        format_micros(row["waived_micros"]),
        row["mark_state"] or "none",
    )
