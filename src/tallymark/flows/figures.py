"""What a service tells of itself: figures of the ledger for who watches it, and whether it is ready.

Each figure is read through an index of what is open or held, or from a table of a few rows, so that asking every few
seconds costs the same whatever the ledger holds. What is open and how much of it there is decides the cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import Config, require_langfuse, require_stripe
from ..core.alerts import Rule
from ..core.clock import MINUTE_US
from ..core.credits import MICROS_PER_CREDIT
from ..core.states import UNSETTLED, State
from ..errors import ConfigError, LedgerError
from ..ledger.guard import using_ledger
from ..ledger.jobs import jobs_of
from .service import FULL_SYNC, SYNC

# Everything that is not settled; these are always told, also when there is none.
OPEN_STATES = UNSETTLED
# What is going to be counted without anybody doing anything.
ON_THE_WAY = (State.PENDING, State.SENDING, State.STREAMED)


@dataclass(frozen=True, slots=True)
class Amount:
    """How many, and their sum in micro-credits."""

    count: int = 0
    amount_micros: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """The ledger in numbers. `read_up_to_us` is None before the first sync; `alerts` counts what is wrong, by rule."""

    read_up_to_us: int | None
    unsent_micros: int
    meter_events: Mapping[str, Amount]
    held_traces: Mapping[str, Amount]
    held_meter_events: Mapping[str, Amount]
    open_reports: int
    jobs: tuple[Mapping[str, Any], ...]
    alerts: Mapping[str, int]

    @property
    def owed_micros(self) -> int:
        """What is recorded and on its way to Stripe, in micro-credits."""
        return self.unsent_micros + sum(self.meter_events[state].amount_micros for state in ON_THE_WAY)


def figures(ledger_url: str) -> Figures:
    """Read all of them at one moment. Raises LedgerError."""
    with using_ledger(ledger_url, read_only=True) as ledger, ledger.one_moment() as db:
        by_state = {
            row["state"]: Amount(row["meter_events"], row["credits"] * MICROS_PER_CREDIT)
            for row in db.rows("open_by_state")
        }
        return Figures(
            read_up_to_us=db.row("read_up_to")["to_us"],
            unsent_micros=db.row("open_amount")["amount_micros"],
            meter_events={str(state): by_state.get(state, Amount()) for state in OPEN_STATES},
            held_traces=_amounts(db.rows("held_by_reason"), "traces"),
            held_meter_events=_amounts(db.rows("held_events_by_reason"), "meter_events"),
            open_reports=db.row("count_reports")["reports"],
            jobs=tuple({name: row[name] for name in row.keys()} for row in jobs_of(ledger)),  # noqa: SIM118 - no dict
            alerts=dict.fromkeys(Rule, 0) | {row["rule"]: row["alerts"] for row in db.rows("alerts_by_rule")},
        )


def _amounts(rows: list[Any], counted: str) -> dict[str, Amount]:
    return {row["reason"]: Amount(row[counted], row["amount_micros"]) for row in rows}


def why_not_ready(config: Config, now_us: int) -> str:
    """Why usage is not being billed, in a sentence for whoever may ask; empty if it is.

    It names no path, host or key: the log and `tallymark doctor` do.
    """
    try:
        require_langfuse(config)
        require_stripe(config)
        with using_ledger(config.ledger_url, read_only=True) as ledger:
            jobs = {row["name"]: row for row in jobs_of(ledger)}
    except ConfigError:
        return "a setting is missing or wrong; `tallymark doctor` says which."
    except LedgerError as error:
        return f"the ledger cannot be used ({type(error).__name__}); `tallymark doctor` says why."
    return _why_stale(jobs, config.sync_stale_us, now_us)


def _why_stale(jobs: Mapping[str, Any], stale_us: int, now_us: int) -> str:
    worked_us = [jobs[name]["succeeded_at_us"] or 0 for name in (SYNC, FULL_SYNC) if name in jobs]
    newest_us = max(worked_us, default=0)
    if not newest_us:
        return "no sync has worked yet; the log says what it waits for."
    if now_us - newest_us > stale_us:
        return f"the last sync that worked is {(now_us - newest_us) // MINUTE_US} minutes old; the log says why."
    return ""
