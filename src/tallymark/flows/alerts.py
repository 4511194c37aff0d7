"""Alerts: look at the figures, keep what is wrong in the ledger, and tell it when it begins, daily, and at its end.

A job of `serve`, apart from the others, so that a sync which hangs does not keep it (docs/adr/0037).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from ..config import Config
from ..core.clock import DAY_US, HOUR_US, Clock, format_time, parse_time
from ..errors import RemoteError
from ..ledger import Ledger
from ..ledger.alerts import begin_telling, end_telling, note_alerts
from ..ledger.database import Row
from ..ledger.guard import using_ledger
from ..ledger.jobs import Done
from ..remote.webhook import post
from .alert_messages import Told, log_line, message
from .alert_rules import CUSTOMER_MEMORY_US, ToDate, Watched, findings
from .figures import Amount, Figures, figures
from .paging import Listing, listing, read_cursor
from .ranges import month_named
from .service import Every, Job
from .usage import usage_totals

log = logging.getLogger("tallymark")

ALERTS = "alerts"
# How long a difference without a cause is looked for in what reconciliations found.
DRIFT_DAYS = 8
NOTICES = 5
_PROBLEM = "alert webhook"


class Alert(msgspec.Struct):
    """Something that is wrong. `subject` is the job, the reason or the customer that it is about; "" for none.

    `value` is more than `limit`, both in `unit`. `told_at` is when the webhook or, without one, the log last told it.
    """

    rule: str
    subject: str
    text: str
    value: str
    limit: str
    unit: str
    began_at: str
    seen_at: str
    told_at: str | None


class _Found(msgspec.Struct):
    """Of a reconciliation's summary."""

    from_: str = msgspec.field(name="from")
    to: str
    explained: bool


def alert_jobs(config: Config) -> list[Job]:
    """The job that alerts, as the settings ask for it."""
    # A service that starts may have much to catch up with: it looks when it has had a little time.
    return [Job(ALERTS, Every(config.alert_every_us, at_once=False), lambda clock, *_: _run(config, clock))]


def _run(config: Config, clock: Clock) -> Done:
    alert(config, clock)
    return Done()


def alert(config: Config, clock: Clock) -> None:
    """Look once, and tell what is to be told. A webhook that fails is asked again next time. Raises LedgerError."""
    now_us = clock.now_us()
    of_ledger = figures(config.ledger_url)
    with using_ledger(config.ledger_url) as ledger:
        note_alerts(ledger, findings(_watched(ledger, config, of_ledger, now_us), config), now_us)
        _tell(ledger, config, clock)


def alerts(ledger: Ledger, limit: int, cursor: str | None = None) -> Listing[Alert]:
    """A page of what is wrong, by rule and subject. Raises ConfigError for a cursor that is none."""
    rule, subject = read_cursor(cursor, str, str) if cursor else ("", "")
    rows = list(ledger.query("alerts_after", rule=rule, subject=subject, limit=limit + 1))
    return listing(rows, limit, _alert, lambda row: (row["rule"], row["subject"]))


def alert_notices(ledger_url: str) -> Listing[Alert]:
    """The first alerts, for a page that has other things to say too. Raises LedgerError."""
    with using_ledger(ledger_url, read_only=True) as ledger:
        return alerts(ledger, NOTICES)


def _alert(row: Row) -> Alert:
    told_at_us = row["told_at_us"]
    return Alert(
        row["rule"],
        row["subject"],
        row["text"],
        row["value"],
        row["bound"],
        row["unit"],
        format_time(row["began_at_us"]),
        format_time(row["seen_at_us"]),
        format_time(told_at_us) if told_at_us is not None else None,
    )


# ---- what is told


def _tell(ledger: Ledger, config: Config, clock: Clock) -> None:
    """Tell what is new, over, or goes on since yesterday, in one message."""
    rows = begin_telling(ledger, clock.now_us(), config.alert_every_us // 2)
    for row in rows:
        if _is_first_try(row):
            log.warning("%s", log_line(row))
    if rows and _sent(ledger, config, message(rows, clock.now_us())):
        end_telling(ledger, rows, clock.now_us())


def _is_first_try(row: Row) -> bool:
    """Whether this was not told to the log before, when the webhook did not take it."""
    said_us = [row[name] for name in ("told_at_us", "over_at_us") if row[name] is not None]
    return row["tried_at_us"] is None or any(row["tried_at_us"] <= at_us for at_us in said_us)


def _sent(ledger: Ledger, config: Config, told: Told) -> bool:
    """Whether the webhook took it, or there is none. Why it does not is logged when that changes."""
    if config.alert_webhook_url is None:
        return True
    problem = ""
    try:
        post(config.alert_webhook_url, msgspec.json.encode(told))
    except RemoteError as error:
        problem = str(error)
    before = ledger.fact(_PROBLEM) or ""
    if problem != before:
        ledger.put_fact(_PROBLEM, problem)
        if problem:
            log.error("alerts could not be sent, and are sent again at the next look: %s", problem)
        else:
            log.warning("alerts can be sent again")
    return not problem


# ---- what is looked at


def _watched(ledger: Ledger, config: Config, seen: Figures, now_us: int) -> Watched:
    before_us = now_us - int(config.alert_leakage_hours * HOUR_US)
    up_to_us = min(now_us, seen.read_up_to_us or 0)
    return Watched(
        now_us=now_us,
        read_up_to_us=seen.read_up_to_us,
        failing={
            job["name"]: (job["failed_in_a_row"], job["problem"])
            for job in seen.jobs
            if job["failed_in_a_row"] and job["name"] != ALERTS
        },
        drift=_drift(ledger, now_us),
        in_doubt=seen.meter_events["in_doubt"],
        leaked={
            row["reason"]: Amount(row["traces"], row["amount_micros"])
            for row in ledger.query("leaked_traces", before_us=before_us)
        },
        unsent_micros=next(iter(ledger.query("leaked_credits", before_us=before_us)))["amount_micros"],
        held=_sum([*seen.held_traces.values(), *seen.held_meter_events.values()]),
        last_usage_us=next((row["timestamp_us"] for row in ledger.query("last_usage", until_us=up_to_us)), None),
        last_usage_of=_last_usage_of(ledger, config, up_to_us),
        to_date=dict(_to_date(ledger, now_us)),
    )


def _sum(amounts: Sequence[Amount]) -> Amount:
    return Amount(sum(each.count for each in amounts), sum(each.amount_micros for each in amounts))


def _drift(ledger: Ledger, now_us: int) -> tuple[int, str, str] | None:
    """When differences without a cause were found that no later reconciliation, as long or longer, has explained."""
    explained_us = 0
    for row in ledger.query("close_reconciles", since_us=now_us - DRIFT_DAYS * DAY_US):
        found = msgspec.json.decode(row["summary"], type=_Found)
        length_us = parse_time(found.to) - parse_time(found.from_)
        if found.explained:
            explained_us = max(explained_us, length_us)
        elif length_us > explained_us:
            return row["finished_at_us"], found.from_, found.to
    return None


def _last_usage_of(ledger: Ledger, config: Config, up_to_us: int) -> Mapping[str, int]:
    """When customers with usage lately had it last; nobody, where no setting asks for it."""
    if config.alert_customer_stopped_hours is None:
        return {}
    since_us = up_to_us - CUSTOMER_MEMORY_US - int(config.alert_customer_stopped_hours * HOUR_US)
    rows = ledger.query("last_usage_by_customer", since_us=since_us, until_us=up_to_us)
    return {row["customer_id"]: row["timestamp_us"] for row in rows}


def _to_date(ledger: Ledger, now_us: int) -> Iterator[tuple[str, ToDate]]:
    """The usage of every customer in the billing period to date, as it was last read of Stripe, else in the month."""
    periods = {row["customer_id"]: row["start_us"] for row in ledger.query("current_periods", now_us=now_us)}
    month_us = month_named(format_time(now_us)[:7], now_us)[0]
    for customer_id, total in usage_totals(ledger, month_us, now_us, "", "customer").items():
        if customer_id not in periods:
            yield customer_id, ToDate(month_us, total.micros, total.margin_usd)
    for start_us, group in groupby(periods, key=lambda customer_id: periods[customer_id]):
        customers = set(group)
        only = min(customers) if len(customers) == 1 else ""
        for customer_id, total in usage_totals(ledger, start_us, now_us, only, "customer").items():
            if customer_id in customers:
                yield customer_id, ToDate(start_us, total.micros, total.margin_usd)
