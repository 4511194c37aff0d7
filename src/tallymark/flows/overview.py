"""How billing stands: what is owed, sent, held and in doubt, how fresh that is, and what is not billed yet.

Sums of what is open are read through its indexes, and what was sent through one of its own, so the cost does not grow
with what is settled.
"""

from __future__ import annotations

import msgspec

from ..config import Config
from ..core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_time
from ..core.credits import MICROS_PER_CREDIT, format_micros
from ..core.states import State
from ..ledger import Ledger
from ..ledger.guard import using_ledger
from .figures import Figures, figures, why_not_ready
from .ranges import month_named
from .runs import Run, list_runs

AGES = ("under an hour", "under a day", "under 7 days", "older")


class Unbilled(msgspec.Struct):
    """Credits of usage of an age that are not billed: on their way to Stripe, or waiting for a person or Stripe's word
    (held, rejected, in doubt)."""

    age: str
    on_its_way_credits: str
    waiting_credits: str


class Status(msgspec.Struct):
    """How billing stands.

    `problem` says why usage is not being billed, and is empty if it is; `stale` why the figures are older than they
    should be. `lag_seconds` is the age of `read_up_to`. What was sent is what Stripe accepted since midnight, or the
    first of the month, in UTC.
    """

    ready: bool
    problem: str
    stale: str
    read_up_to: str | None
    lag_seconds: int | None
    owed_credits: str
    sent_today_credits: str
    sent_this_month_credits: str
    held_traces: int
    held_meter_events: int
    held_credits: str
    in_doubt_meter_events: int
    in_doubt_credits: str
    rejected_meter_events: int
    rejected_credits: str
    unbilled: list[Unbilled]
    last_run: Run | None


def status(config: Config, now_us: int) -> Status:
    """Read it all. Raises LedgerError."""
    found, problem = figures(config.ledger_url), why_not_ready(config, now_us)
    read_us = found.read_up_to_us
    held = [*found.held_traces.values(), *found.held_meter_events.values()]
    in_doubt, rejected = found.meter_events[State.IN_DOUBT], found.meter_events[State.REJECTED]
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return Status(
            ready=not problem,
            problem=problem,
            stale="" if problem else _stale(config, found, now_us),
            read_up_to=format_time(read_us) if read_us is not None else None,
            lag_seconds=(now_us - read_us) // SECOND_US if read_us is not None else None,
            owed_credits=format_micros(found.owed_micros),
            sent_today_credits=_sent(ledger, now_us - now_us % DAY_US),
            sent_this_month_credits=_sent(ledger, month_named(format_time(now_us)[:7], now_us)[0]),
            held_traces=sum(each.count for each in found.held_traces.values()),
            held_meter_events=sum(each.count for each in found.held_meter_events.values()),
            held_credits=format_micros(sum(each.amount_micros for each in held)),
            in_doubt_meter_events=in_doubt.count,
            in_doubt_credits=format_micros(in_doubt.amount_micros),
            rejected_meter_events=rejected.count,
            rejected_credits=format_micros(rejected.amount_micros),
            unbilled=_unbilled(ledger, now_us),
            last_run=next(iter(list_runs(ledger, now_us, 1).items), None),
        )


def _stale(config: Config, found: Figures, now_us: int) -> str:
    """Runs work, and yet do not come to the present: why the figures are old, in a sentence; empty if they are not."""
    if found.read_up_to_us is None:
        return ""
    minutes = (now_us - found.read_up_to_us) // MINUTE_US
    if minutes * MINUTE_US <= config.settle_us + config.sync_stale_us:
        return ""
    return f"Langfuse was read up to {minutes:,} minutes ago, although syncs work; look at the last run."


def _sent(ledger: Ledger, from_us: int) -> str:
    row = next(iter(ledger.query("sent_since", from_us=from_us)))
    return format_micros(row["credits"] * MICROS_PER_CREDIT)


def _unbilled(ledger: Ledger, now_us: int) -> list[Unbilled]:
    ages = {"hour_us": now_us - HOUR_US, "day_us": now_us - DAY_US, "week_us": now_us - 7 * DAY_US}
    micros = {(row["age"], row["waits"]): row["amount_micros"] for row in ledger.query("unbilled_by_age", **ages)}
    return [
        Unbilled(age, *(format_micros(micros.get((place, waits), 0)) for waits in (0, 1)))
        for place, age in enumerate(AGES)
    ]
