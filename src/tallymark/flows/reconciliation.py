"""The result of a reconciliation: the object that `--json` prints, from the windows that were compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ..core.balance import REMEDIES, UNEXPLAINED, Cause, Window, WindowKey, add, total, totals_by_customer
from ..core.clock import DAY_US, SECOND_US, format_time
from ..core.credits import format_micros
from ..ledger.rows import PutComparedDay, RunRef
from .audit import Audit
from .stations import Stations
from .summary import Requests, SyncSummary


class Line(msgspec.Struct):
    """One customer and meter, over a window or over all of the range; amounts in credits, exact.

    stripe = langfuse + the sum of differences. `stripe` is null where nothing was sent, so that Stripe was not asked.
    """

    customer: str
    meter: str
    langfuse: str
    entries: str
    accepted: str
    stripe: str | None
    differences: dict[str, str]
    window: str | None = None


class CauseLine(msgspec.Struct):
    """All that one cause explains, what to do about it, and some of the traces behind it."""

    cause: str
    credits: str
    windows: int
    traces: int
    examples: list[str]
    remedy: str


class Marks(msgspec.Struct):
    """Billed traces that Langfuse showed: how many should carry a mark, and how many carry one."""

    expected: int = 0
    seen: int = 0
    lost: int = 0
    without_money: int = 0


class Reconciliation(msgspec.Struct):
    """What was compared and found. `windows` are those with a difference that is not only carry."""

    run_id: str
    ledger_id: str
    from_: str = msgspec.field(name="from")
    to: str
    by: str
    explained: bool
    total: Line
    customers: list[Line]
    causes: list[CauseLine]
    held: dict[str, int]
    marks: Marks
    windows: list[Line]
    chain: str
    repaired: SyncSummary | None
    requests: Requests
    seconds: float

    @property
    def exit_status(self) -> int:
        """0 if every difference has a cause, else 1."""
        return 0 if self.explained else 1

    def encode(self) -> bytes:
        """The object as JSON."""
        return msgspec.json.encode(self)


def reconciliation_of(stations: Stations, run: RunRef, audit: Audit, repaired: SyncSummary | None) -> Reconciliation:
    """Put what was found into words."""
    everything = total(audit.windows.values())
    return Reconciliation(
        run_id=run.run_id,
        ledger_id=stations.ledger.fact("ledger_id") or "",
        from_=format_time(audit.from_us),
        to=format_time(audit.to_us),
        by=audit.by,
        explained=not any(window.differences[cause] for window in audit.windows.values() for cause in UNEXPLAINED),
        total=_line("", "", everything),
        customers=[_line(*key, window) for key, window in totals_by_customer(audit.windows).items()],
        causes=list(_causes(audit)),
        held={what.removeprefix("held: "): count for what, count in audit.traces.items() if what.startswith("held: ")},
        marks=Marks(
            audit.marks["expected"],
            audit.marks["seen"],
            audit.traces["mark lost"],
            audit.traces["mark without money"],
        ),
        windows=list(lines_of(audit, only_different=True)),
        chain=audit.chain,
        repaired=repaired,
        requests=stations.requests,
        seconds=(stations.clock.now_us() - run.now_us) / SECOND_US,
    )


def lines_of(audit: Audit, *, only_different: bool) -> Iterator[Line]:
    """The windows as lines, in order; with `only_different` those in which more than the carry differs."""
    for (customer_id, meter, start_us), window in sorted(audit.windows.items()):
        if not only_different or any(amount for cause, amount in window.differences.items() if cause != Cause.CARRY):
            yield _line(customer_id, meter, window, format_time(start_us))


def compared_days(run_id: str, audit: Audit) -> list[PutComparedDay]:
    """Every customer, meter and UTC day of an audit, added up, as the ledger keeps them."""
    days: dict[WindowKey, Window] = {}
    asked = set()
    for (customer_id, meter, start_us), window in sorted(audit.windows.items()):
        key = (customer_id, meter, start_us - start_us % DAY_US)
        add(days.setdefault(key, Window()), window)
        if window.stripe_micros is not None:
            asked.add(key)
    return [_day(run_id, key, window, key in asked) for key, window in days.items()]


def _day(run_id: str, key: WindowKey, window: Window, asked: bool) -> PutComparedDay:
    customer_id, meter, day_us = key
    differences = {str(cause): window.differences[cause] for cause in Cause if window.differences.get(cause)}
    return PutComparedDay(
        run_id,
        day_us,
        customer_id,
        meter,
        window.langfuse_micros,
        window.entries_micros,
        window.accepted_micros,
        window.stripe_micros if asked else None,
        msgspec.json.encode(differences).decode(),
    )


def _line(customer_id: str, meter: str, window: Window, start: str | None = None) -> Line:
    return Line(
        customer_id,
        meter,
        format_micros(window.langfuse_micros),
        format_micros(window.entries_micros),
        format_micros(window.accepted_micros),
        None if window.stripe_micros is None else format_micros(window.stripe_micros),
        _differences(window.differences),
        start,
    )


def _differences(differences: Mapping[Cause, int]) -> dict[str, str]:
    return {str(cause): format_micros(differences[cause]) for cause in Cause if differences.get(cause)}


def _causes(audit: Audit) -> Iterator[CauseLine]:
    for cause in Cause:
        amounts = [window.differences[cause] for window in audit.windows.values() if window.differences.get(cause)]
        if amounts:
            traces, examples = audit.behind(cause)
            yield CauseLine(cause, format_micros(sum(amounts)), len(amounts), traces, examples, REMEDIES[cause])
