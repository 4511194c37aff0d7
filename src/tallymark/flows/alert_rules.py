"""The rules of alerts: what figures mean. Pure; flows/alerts.py reads the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..config import Config
from ..core.alerts import Finding, Rule
from ..core.clock import DAY_US, HOUR_US, MINUTE_US, format_time
from ..core.credits import EXACT, MICROS_PER_CREDIT, format_micros, format_usd
from .figures import Amount

# A customer who used nothing for longer than this, and the hours of the setting, has gone, and is no news any more.
CUSTOMER_MEMORY_US = 7 * DAY_US
UNSENT = "unsent"


@dataclass(frozen=True, slots=True)
class ToDate:
    """A customer's usage of the period to date: micro-credits less what was waived, and revenue less cost."""

    from_us: int
    micros: int
    margin_usd: Decimal


@dataclass(frozen=True, slots=True)
class Watched:
    """The figures that rules look at, of one moment.

    `failing` says of a job how often in a row it failed, and why. `drift` says when a reconciliation found differences
    without a cause, and in which range. `leaked` are traces that are held, by reason; `unsent_micros` what is recorded
    and does not leave; both of before BILLING_ALERT_LEAKAGE_HOURS. `last_usage_of` knows customers with usage lately.
    """

    now_us: int
    read_up_to_us: int | None
    failing: Mapping[str, tuple[int, str]]
    drift: tuple[int, str, str] | None
    in_doubt: Amount
    leaked: Mapping[str, Amount]
    unsent_micros: int
    held: Amount
    last_usage_us: int | None
    last_usage_of: Mapping[str, int]
    to_date: Mapping[str, ToDate]


def findings(seen: Watched, config: Config) -> list[Finding]:
    """All that the rules find."""
    return [
        *_lag(seen, config),
        *_failures(seen, config),
        *_drift(seen),
        *_in_doubt(seen),
        *_leakage(seen, config),
        *_held(seen, config),
        *_usage_stopped(seen, config),
        *_customers(seen, config),
    ]


def _lag(seen: Watched, config: Config) -> Iterator[Finding]:
    """Before the first sync nothing is behind; `failures` tells of a first sync that never works."""
    if seen.read_up_to_us is None:
        return
    behind_us = seen.now_us - config.settle_us - seen.read_up_to_us
    if behind_us > config.alert_lag_minutes * MINUTE_US:
        minutes = behind_us // MINUTE_US
        text = f"usage is read up to {format_time(seen.read_up_to_us)} only, {minutes:,} minutes behind."
        yield Finding(Rule.LAG, "", text, str(minutes), str(config.alert_lag_minutes), "minutes")


def _failures(seen: Watched, config: Config) -> Iterator[Finding]:
    for job, (times, problem) in sorted(seen.failing.items()):
        if times >= config.alert_failures:
            text = f"{job} failed {times:,} times in a row: {problem}"
            yield Finding(Rule.FAILURES, job, text, str(times), str(config.alert_failures), "runs")


def _drift(seen: Watched) -> Iterator[Finding]:
    if seen.drift is not None:
        at_us, from_text, to_text = seen.drift
        text = f"reconcile at {format_time(at_us)} found differences without a cause from {from_text} to {to_text}."
        yield Finding(Rule.DRIFT, "", text, "1", "0", "reconciliations")


def _in_doubt(seen: Watched) -> Iterator[Finding]:
    if seen.in_doubt.count:
        credits = format_micros(seen.in_doubt.amount_micros)
        text = f"meter events that Stripe may have counted, or not: {seen.in_doubt.count:,}, {credits} credits."
        yield Finding(Rule.IN_DOUBT, "", text, str(seen.in_doubt.count), "0", "meter events")


def _leakage(seen: Watched, config: Config) -> Iterator[Finding]:
    hours = config.alert_leakage_hours
    for reason, amount in sorted(seen.leaked.items()):
        worth = f", worth {format_micros(amount.amount_micros)} credits" if amount.amount_micros else ""
        text = f"traces not billed after {hours} hours, held as {reason}: {amount.count:,}{worth}."
        yield Finding(Rule.LEAKAGE, reason, text, str(amount.count), "0", "traces")
    if seen.unsent_micros >= MICROS_PER_CREDIT:
        credits = format_micros(seen.unsent_micros)
        text = f"recorded and not sent to Stripe after {hours} hours: {credits} credits."
        yield Finding(Rule.LEAKAGE, UNSENT, text, credits, "1", "credits")


def _held(seen: Watched, config: Config) -> Iterator[Finding]:
    limit = config.alert_held_credits
    if limit is not None and seen.held.amount_micros > limit * MICROS_PER_CREDIT:
        credits = format_micros(seen.held.amount_micros)
        text = f"traces and meter events wait for a person: {seen.held.count:,}, {credits} credits."
        yield Finding(Rule.HELD, "", text, credits, str(limit), "credits")


def _usage_stopped(seen: Watched, config: Config) -> Iterator[Finding]:
    """Seen from where usage is read up to: what is not read yet has not stopped."""
    up_to_us = min(seen.now_us, seen.read_up_to_us or 0)
    if seen.last_usage_us is not None:
        yield from _stopped("", seen.last_usage_us, up_to_us, config.alert_stopped_hours)
    limit = config.alert_customer_stopped_hours
    if limit is not None:
        for customer_id, last_us in sorted(seen.last_usage_of.items()):
            yield from _stopped(customer_id, last_us, up_to_us, limit)


def _stopped(customer_id: str, last_us: int, up_to_us: int, limit: Decimal) -> Iterator[Finding]:
    silent_us = up_to_us - last_us
    if silent_us > limit * HOUR_US:
        hours = silent_us // HOUR_US
        who = f"customer {customer_id}" if customer_id else "anybody"
        text = f"there was no usage of {who} for {hours:,} hours, since {format_time(last_us)}."
        yield Finding(Rule.USAGE_STOPPED, customer_id, text, str(hours), str(limit), "hours")


def _customers(seen: Watched, config: Config) -> Iterator[Finding]:
    for customer_id, used in sorted(seen.to_date.items()):
        since = format_time(used.from_us)
        loss_usd = EXACT.minus(used.margin_usd)
        if loss_usd > config.alert_loss_usd:
            loss = format_usd(loss_usd)
            text = f"usage of customer {customer_id} since {since} cost {loss} USD more than it brings."
            yield Finding(Rule.NEGATIVE_MARGIN, customer_id, text, loss, str(config.alert_loss_usd), "USD")
        limit = config.customer_limits.get(customer_id, config.alert_customer_credits)
        if limit is not None and used.micros > limit * MICROS_PER_CREDIT:
            credits = format_micros(used.micros)
            text = f"customer {customer_id} has used {credits} credits since {since}."
            yield Finding(Rule.SPEND, customer_id, text, credits, str(limit), "credits")
