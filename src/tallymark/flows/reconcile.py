"""Reconcile: Langfuse, read and rated again, the ledger, and what Stripe counted; every difference with its cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from ..config import Config
from ..core.balance import Cause, Uncertain, Window, WindowKey, cause_of_state
from ..core.clock import SECOND_US, Clock
from ..core.credits import MICROS_PER_CREDIT, round_to_micros
from ..core.decisions import EntryKind
from ..core.doubt import NO_CUSTOMER, PLUS, SUMMARY_MARGIN_US, Value, spans_of, windows_of
from ..core.doubt import Window as AskedWindow
from ..core.states import State
from ..ledger import Ledger
from ..ledger.meter_windows import meter_windows
from ..ledger.opening import dry_copy
from ..ledger.reports import suspects
from ..ledger.rows import Asked, RunRef
from ..meter.stripe_events import StripeMeter
from .audit import WIDTH_US, Audit, Auditor
from .meters import check_meter
from .progress import Progress, quiet
from .ranges import check_range
from .read import choose_generation, collect_span, marks_by_score, style_of
from .reading import Reading, Recording, range_of
from .reconciliation import Reconciliation, compared_days, reconciliation_of
from .stations import Project, Stations, open_stations
from .sync import Request, decider_of, run_sync, start_run
from .windows import all_meter_ids, values_of

CAUSE_OF_KIND = {
    EntryKind.REVERSAL: Cause.MOVED,
    EntryKind.REBOOKING: Cause.MOVED,
    EntryKind.WAIVER: Cause.WAIVED,
    EntryKind.INVOICED: Cause.INVOICED,
}


def reconcile(
    config: Config,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    by: str | None = None,
    repair: bool = False,
    clock: Clock | None = None,
    progress: Progress = quiet,
    asked: Asked | None = None,
) -> tuple[Reconciliation, Audit]:
    """Compare Langfuse, ledger and Stripe over a range, the look-back unless one is named.

    `by` is "hour" or "day"; None compares by hour unless a bucket of the range, or a meter's own window, is wider. By
    hour nothing is compared that Stripe counts by the day (event_time_window). With `repair` the range is
    synced first: that bills what is not billed, settles what is in doubt and writes lost marks. Besides that nothing
    is written. `asked` says who asked for it, if it was not started by hand.
    Raises ConfigError, RemoteError or LedgerError.
    """
    check_range(from_us, to_us)
    with open_stations(config, dry_run=False, clock=clock) as stations:
        now_us = stations.clock.now_us()
        from_us = from_us if from_us is not None else now_us - config.lookback_us
        to_us = min(to_us if to_us is not None else now_us, now_us)
        repaired = (
            run_sync(stations, Request(from_us=from_us, full=True, ask_at_once=True), False, progress)
            if repair
            else None
        )
        check_meter(stations)
        run = start_run(stations, "reconcile", asked)
        audit = _audit(stations, run, from_us, to_us, by, progress)
        found = reconciliation_of(stations, run, audit, repaired)
        days = compared_days(run.run_id, audit)
        stations.ledger.finish_run(run.run_id, found.encode(), stations.clock.now_us(), days)
        return found, audit


def _audit(stations: Stations, run: RunRef, from_us: int, to_us: int, by: str | None, progress: Progress) -> Audit:
    """Look at all three. What a sync would do is tried on a throw-away copy of one moment of the ledger."""
    with dry_copy(stations.config.ledger_url) as copy:
        audit = _range_of(stations, copy, run, from_us, to_us, by)
        apart = replace(stations, ledger=copy)
        for project in stations.projects:
            _audit_langfuse(apart, project, run, audit, progress)
        _audit_ledger(copy, run, audit)
        uncertain = _audit_meter_events(copy, run, audit, stations.clock.now_us())
    _audit_stripe(stations, audit, uncertain, progress)
    return audit


def _range_of(stations: Stations, ledger: Ledger, run: RunRef, from_us: int, to_us: int, by: str | None) -> Audit:
    """The range in whole windows: Stripe adds up nothing narrower, and of a pre-aggregated meter no part of its own."""
    widest = next(iter(ledger.query("widest_bucket", from_s=from_us // SECOND_US, to_s=to_us // SECOND_US)))
    width_us = WIDTH_US[by or ("day" if widest["width_us"] > WIDTH_US["hour"] else "hour")]
    width_us = max(width_us, *(window_s * SECOND_US for window_s in (0, *meter_windows(ledger).values())))
    settled_us = run.now_us - stations.config.settle_us
    whole = (from_us - from_us % width_us, to_us + -to_us % width_us)
    return Audit(*whole, settled_us, width_us, ledger.chain_head("entry"))


def _audit_langfuse(stations: Stations, project: Project, run: RunRef, audit: Audit, progress: Progress) -> None:
    """Read a project as a full sync would, up to the present, and audit every trace."""
    # Asked anew: what is audited twice would be counted twice, so a mode that changed must be known before.
    chosen = choose_generation(stations, project, fresh=True)
    auditor = Auditor(decider_of(stations, run, False, style_of(stations, chosen)), audit, stations.ledger)
    into = Recording(stations.ledger, auditor, run, progress=progress)
    span = range_of(audit.from_us, min(audit.to_us, run.now_us), run.now_us, 0)
    collect_span(Reading(stations, project, chosen, into), span, None, check_scores=marks_by_score(stations, chosen))
    auditor.count()


def _audit_ledger(ledger: Ledger, run: RunRef, audit: Audit) -> None:
    """Add up the ledger's lines, and what it billed for traces that Langfuse no longer shows."""
    place = {"from_us": audit.from_us, "to_us": audit.to_us, "width_us": audit.width_us, "run_id": run.run_id}
    for row in ledger.query("entries_by_window", **place):
        window = audit.window(row["customer_id"], row["meter"], row["window_us"])
        window.entries_micros += row["amount_micros"]
        cause = CAUSE_OF_KIND.get(row["kind"])
        if cause is not None:
            window.differences[cause] += row["amount_micros"]
        if row["is_open"]:
            window.differences[Cause.IN_FLIGHT] -= row["amount_micros"]
    for row in ledger.query("unseen_billed", **place):
        window = audit.window(row["customer_id"], row["meter"], row["window_us"])
        window.differences[Cause.NOT_IN_LANGFUSE] += row["amount_micros"]
        audit.note(Cause.NOT_IN_LANGFUSE, row["trace_id"])


def _audit_meter_events(ledger: Ledger, run: RunRef, audit: Audit, now_us: int) -> dict[WindowKey, Uncertain]:
    """Add up the meter events; which credits Stripe may have counted, or may not show yet, by window."""
    uncertain: dict[WindowKey, Uncertain] = {}
    suspected = {row["meter_event_id"] for row in suspects(ledger, now_us)}
    span = {"from_s": audit.from_us // SECOND_US, "to_s": audit.to_us // SECOND_US, "run_id": run.run_id}
    for row in ledger.query("meter_events_between", **span):
        at_us, used_us = row["timestamp_s"] * SECOND_US, _used_us(row)
        if audit.covers(used_us):
            _add_left(audit.window(row["customer_id"], row["meter"], used_us), row, redated=used_us != at_us)
        if audit.covers(at_us):
            _add_sent(audit.window(row["customer_id"], row["meter"], at_us), row, redated=used_us != at_us)
            key = (row["customer_id"], row["meter"], at_us - at_us % audit.width_us)
            _note_uncertain(uncertain.setdefault(key, Uncertain()), row, now_us, row["meter_event_id"] in suspected)
    return uncertain


def _used_us(row: Any) -> int:
    """When the usage of a meter event was: its date, unless that lies before its bucket (core.periods.dated_us)."""
    return int(max(row["timestamp_s"] * SECOND_US, row["bucket_start_us"]))


def _add_left(window: Window, row: Any, *, redated: bool) -> None:
    """Add what a meter event takes out of the window of its usage without a send."""
    if row["state"] == State.CANCELLED:
        return
    window.differences[Cause.CARRY] -= row["carry_after_micros"] - row["carry_before_micros"]
    if redated:
        window.differences[Cause.REDATED] -= row["credits"] * MICROS_PER_CREDIT


def _add_sent(window: Window, row: Any, *, redated: bool) -> None:
    """Add what a meter event brings into the window that it is dated in."""
    micros = row["credits"] * MICROS_PER_CREDIT
    if row["state"] == State.ACCEPTED:
        window.accepted_micros += micros
    elif cause := cause_of_state(row["state"], row["reason"]):
        window.differences[cause] -= micros
    if redated and row["state"] != State.CANCELLED:
        window.differences[Cause.REDATED] += micros


def _note_uncertain(uncertain: Uncertain, row: Any, now_us: int, suspected: bool) -> None:
    if row["state"] == State.IN_DOUBT:
        uncertain.doubtful.append(row["credits"])
    elif row["state"] in (State.PENDING, State.SENDING, State.STREAMED, State.CANCELLING, State.CANCELLED):
        uncertain.unsettled.append(row["credits"])
    elif row["state"] == State.ACCEPTED and now_us - row["answered_at_us"] < SUMMARY_MARGIN_US:
        uncertain.unseen.append(row["credits"])
    elif row["state"] == State.ACCEPTED and suspected:
        uncertain.suspected.append(row["credits"])


def _audit_stripe(stations: Stations, audit: Audit, uncertain: dict[WindowKey, Uncertain], progress: Progress) -> None:
    """Ask Stripe for the windows in which something was sent, and explain each gap."""
    for key in uncertain:
        # Stripe leaves out windows without usage.
        audit.windows[key].stripe_micros = 0
    width_s = audit.width_us // SECOND_US
    touched = windows_of([(customer, meter, at_us // SECOND_US) for customer, meter, at_us in uncertain], width_s)
    if stations.stripe is not None and touched:
        _ask(stations.stripe, audit, touched, progress)
    for key, window in audit.windows.items():
        window.explain(uncertain.get(key, Uncertain()))


def _ask(stripe: StripeMeter, audit: Audit, touched: Sequence[AskedWindow], progress: Progress) -> None:
    """Ask what Stripe counted in these windows, and in those between them."""
    ids, spans = all_meter_ids(stripe), spans_of(touched)
    for number, span in enumerate(spans, 1):
        for asked, value in values_of(stripe, ids, span, audit.by).items():
            window = audit.window(asked.customer_id, asked.meter, asked.start_s * SECOND_US)
            window.stripe_micros = micros_of(value)
        progress("compare", number, len(spans))


def micros_of(value: Value) -> int:
    """A window's value in micro-credits: parts of credits, which somebody else sent, to the nearest; nobody's, none."""
    if value.credits is not None or value == NO_CUSTOMER:
        return (value.credits or 0) * MICROS_PER_CREDIT
    return round_to_micros(sum((Decimal(part) for part in value.said.split(PLUS)), Decimal(0)))
