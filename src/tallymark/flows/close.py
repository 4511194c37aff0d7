"""Close: is everything of a period billed, before Stripe makes its invoices final? Reads only the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..config import Config
from ..core.clock import DAY_US, format_time
from ..core.types import Reason
from ..core.windows import STRIPE_AGE_MAX_US
from ..errors import NotFound
from ..ledger import Ledger
from ..ledger.database import Database
from .closing import Check, Closing, Period, check_amount, held_command, moment_text
from .drift import check_drift
from .held import REMEDIES
from .stations import source_key
from .sync import purpose_of

OPEN, IN_DOUBT, REJECTED = "open", "in_doubt", "rejected"
UNPRICED = (Reason.UNPRICED, Reason.UNRATED)
# A meter event is sent at most 35 days after its usage, and reported within a day.
REPORTS_FOR_US = STRIPE_AGE_MAX_US + DAY_US


@dataclass(slots=True)
class _Waiting:
    """What waits for one reason. `parts`: billed traces of which a part waits; that part's worth is not known."""

    traces: int = 0
    amount_micros: int = 0
    parts: int = 0


def close_period(ledger: Ledger, config: Config, period: Period, now_us: int) -> Closing:
    """The checklist of a period, from one moment of the ledger. Raises NotFound for an unknown customer."""
    with ledger.one_moment() as db:
        _require_known(db, period)
        checks = [
            *_check_read(ledger, config, period, now_us),
            *_check_money(db, period),
            _check_reports(db, period),
            _check_marks(db, period),
            *check_drift(db, period),
        ]
        heads = [ledger.chain_head(name) for name in ("entry", "decision")]
    return Closing(
        format_time(period.from_us),
        format_time(period.to_us),
        period.customer_id or None,
        all(check.passed for check in checks),
        checks,
        *heads,
    )


def _require_known(db: Database, period: Period) -> None:
    """Of a customer whose name is misspelled nothing would wait."""
    if period.customer_id and not db.row("customer_is_known", customer_id=period.customer_id)["known"]:
        raise NotFound(f"the ledger has nothing of the customer {period.customer_id!r}; see `tallymark usage`.")


def _check_read(ledger: Ledger, config: Config, period: Period, now_us: int) -> Iterator[Check]:
    """A line for each project: read, and settled, from the period's first moment to its last."""
    for project in config.projects:
        name = "read" if len(config.projects) == 1 else f"read: {project.name}"
        key = source_key(project.base_url, project.public_key or "")
        purposes = {purpose_of(False), purpose_of(config.use_tag_filtering)}
        found = [ledger.coverage(key, purpose) for purpose in sorted(purposes)]
        believed = [each.believed(now_us, config.lookback_us) for each in found if each is not None]
        spans = [(each.from_us, each.to_us) for each in believed]
        yield _read_line(name, spans, period, now_us, config.settle_us)


def _read_line(name: str, spans: list[tuple[int, int]], period: Period, now_us: int, settle_us: int) -> Check:
    """`spans` are what was read and settled: for all traces, and for those with the tag that is filtered by."""
    if any(from_us <= period.from_us and to_us >= period.to_us for from_us, to_us in spans):
        return Check(name, True, f"read up to {moment_text(max(to_us for _, to_us in spans))}")
    if now_us < period.to_us + settle_us:
        told = f"the period is not over, or its last traces settle until {format_time(period.to_us + settle_us)}"
        return Check(name, False, told, run="tallymark sync")
    reached = [to_us for from_us, to_us in spans if from_us <= period.from_us]
    if reached:
        return Check(name, False, f"read up to {format_time(max(reached))} only", run="tallymark sync")
    told = f"not read from {format_time(period.from_us)} on" if spans else "never read"
    return Check(name, False, told, run=f"tallymark sync --from {moment_text(period.from_us)}")


def _check_money(db: Database, period: Period) -> Iterator[Check]:
    waiting = _waiting(db, period)
    yield _check_open(db, period, waiting.pop(OPEN, _Waiting()))
    in_doubt, rejected = (waiting.pop(why, _Waiting()) for why in (IN_DOUBT, REJECTED))
    unpriced = {str(reason): waiting.pop(reason) for reason in UNPRICED if reason in waiting}
    yield from _check_reasons("held", waiting, period, "nothing is held")
    yield from _check_reasons("unpriced", unpriced, period, "everything has a price and is rated")
    yield _check_state(IN_DOUBT, in_doubt, "sent and never answered", "nothing is in doubt")
    yield _check_state(REJECTED, rejected, "Stripe did not count it", "nothing is rejected")


def _waiting(db: Database, period: Period) -> dict[str, _Waiting]:
    """What waits, by why: "open", "in_doubt", "rejected", or the reason for which it is held."""
    found: dict[str, _Waiting] = {}
    for row in db.rows("close_traces", **period.values):
        each = found.setdefault(row["why"], _Waiting())
        each.traces += row["traces"]
        each.amount_micros += row["amount_micros"]
        each.parts += row["traces"] if row["part"] else 0
    for row in db.rows("close_meter_events", **period.values):
        each = found.setdefault(row["why"], _Waiting())
        each.traces += row["traces"]
        each.amount_micros += row["amount_micros"]
    return found


def _check_open(db: Database, period: Period, sent: _Waiting) -> Check:
    """What the next sync takes further: lines without a meter event, meter events on their way, traces not decided."""
    entries = db.row("close_entries", **period.values)
    readings = db.row("close_readings", **period.span)["traces"]
    places = {"not gathered": entries["traces"], "on the way to Stripe": sent.traces, "not decided yet": readings}
    return check_amount(
        OPEN,
        entries["amount_micros"] + sent.amount_micros,
        sum(places.values()),
        ", ".join(f"{traces:,} {place}" for place, traces in places.items() if traces),
        "tallymark sync",
        passed_detail="everything is gathered, sent and answered",
    )


def _check_reasons(check: str, waiting: dict[str, _Waiting], period: Period, passed_detail: str) -> Iterator[Check]:
    """A line for each reason, or one that passes."""
    for reason, each in sorted(waiting.items()):
        parts = f"{each.parts:,} of them billed but for a part, whose worth is not known; " if each.parts else ""
        detail = parts + REMEDIES.get(reason, "see its answer")
        # A trace that was billed is no held trace: mended in Langfuse, it is read again.
        command = held_command(reason) if each.traces > each.parts else f"tallymark sync {period.options}"
        yield check_amount(
            f"{check}: {reason}",
            each.amount_micros,
            each.traces,
            detail,
            command,
            passed_detail=passed_detail,
        )
    if not waiting:
        yield check_amount(check, 0, 0, "", "", passed_detail=passed_detail)


def _check_state(state: str, each: _Waiting, detail: str, passed_detail: str) -> Check:
    return check_amount(
        state, each.amount_micros, each.traces, detail, held_command(state), passed_detail=passed_detail
    )


def _check_reports(db: Database, period: Period) -> Check:
    row = db.row("close_reports", from_us=period.from_us, to_us=period.to_us + REPORTS_FOR_US)
    if not row["reports"]:
        return Check("reports", True, "Stripe reported nothing that is not explained")
    told = f"{row['reports']:,} not explained; {row['missing']:,} of the meter events they speak of are not found"
    return Check("reports", False, told, run="tallymark held list")


def _check_marks(db: Database, period: Period) -> Check:
    row = db.row("close_marks", **period.values)
    refused = f"; Langfuse refused {row['refused']:,} of them" if row["refused"] else ""
    return check_amount(
        "marks",
        row["amount_micros"],
        row["traces"],
        f"marks are still to be written{refused}",
        "tallymark sync",
        passed_detail="every mark that is due is written",
    )
