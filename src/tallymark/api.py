"""The reading calls of the library: each opens the ledger that the settings name, asks it one thing, and closes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .clock import SystemClock
from .config import Config, find_file, load, read_card
from .core.clock import DAY_US
from .errors import ConfigError, LedgerMissing
from .flows.progress import Progress, quiet
from .ledger.guard import using_ledger
from .rating.cards import RateCard

if TYPE_CHECKING:
    from .flows.closing import Closing
    from .ledger.verify import Verified

USAGE_DAYS = 30
HELD_ROWS = 1000


def load_config(file: Path | None = None) -> Config:
    """Settings from the environment, a file (or tallymark.toml here), and the defaults. Raises ConfigError."""
    return load(find_file(file, Path.cwd()), os.environ)


def explain(config: Config, trace_id: str) -> dict[str, Any]:
    """How a trace became credits, in which meter event, with which answer, and its marks. Raises NotFound."""
    from .flows import explain as flow
    from .flows.held import policy

    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return {**flow.explain(ledger, trace_id), "policy": policy(config)}


def held(config: Config, reason: str | None = None, limit: int = HELD_ROWS) -> dict[str, Any]:
    """What waits for a person, by reason, with amounts and remedies."""
    from .flows import held as flow

    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return flow.held(ledger, config, reason, limit)


def show_held(config: Config, identity: str) -> dict[str, Any]:
    """Everything about one held trace or waiting meter event, and what may be decided about it. Raises NotFound."""
    from .flows import held as flow

    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return flow.show(ledger, identity, SystemClock().now_us())


def held_decisions(config: Config, limit: int = HELD_ROWS) -> list[dict[str, Any]]:
    """What was decided about money, by whom, when and why; the newest first."""
    from .flows import held as flow

    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return flow.decisions(ledger, limit)


def receive_stripe_report(config: Config, body: bytes, signature: str | None) -> bool:
    """Take a webhook of Stripe: whether it matters: a report on usage that was not counted, which is then stored and
    applied, or a change of a customer's subscriptions or invoices, after which their periods are read anew.

    `body` is the request's body as it came, `signature` its header Stripe-Signature. The same webhook again changes
    nothing. Raises NotificationRefused for one that Stripe did not sign: answer it with 400.
    """
    from .flows.reports import receive_webhook

    return receive_webhook(config, body, signature)


def usage(
    config: Config,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    customer_id: str | None = None,
    by: str = "customer",
) -> list[dict[str, Any]]:
    """Credits, cost, revenue and margin by "customer", "day", "model" or "flow" (the trace's name).

    The last 30 days unless a range is named.
    """
    from .flows import usage as flow

    since_us, until_us = _range(from_us, to_us)
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        rows: list[dict[str, Any]] = msgspec.to_builtins(flow.usage(ledger, since_us, until_us, customer_id, by))
    return rows


def close_period(
    config: Config,
    period: str | None = None,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    customer_id: str | None = None,
) -> Closing:
    """The checklist of a calendar month such as "2026-11" ("last": the one that ended last), or of a range.

    Each line says whether it passes, how much waits, and which command to run next. Asks no server.
    Raises ConfigError for what is no period, NotFound for a customer of whom the ledger has nothing.
    """
    from .flows import close as flow
    from .flows.closing import Period
    from .flows.ranges import month_named

    now_us = SystemClock().now_us()
    if period is not None:
        from_us, to_us = month_named(period, now_us)
    if from_us is None or to_us is None:
        raise ConfigError("name a period such as 2026-11, or both ends of one.")
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return flow.close_period(ledger, config, Period(from_us, to_us, customer_id or ""), now_us)


def check_rates(config: Config, card: Path | None = None) -> dict[str, Any]:
    """What a rate card's file says, or the card of the settings, and what is to be looked at before it is used.

    Raises ConfigError if it is no rate card. Without a ledger, only the card is checked.
    """
    from .flows import rates as flow

    checked, now_us = _card(config, card), SystemClock().now_us()
    try:
        with using_ledger(config.ledger_url, read_only=True) as ledger:
            return flow.check(checked, ledger, now_us)
    except LedgerMissing:
        return flow.check(checked, None, now_us)


def show_rates(config: Config, digest: str | None = None, at_us: int | None = None) -> dict[str, Any]:
    """The rules of the card of the settings, or of one that the ledger used; with a moment, the rule that holds then.

    Raises NotFound for a digest that the ledger does not know.
    """
    from .flows import rates as flow

    if digest is None:
        return flow.describe(config.rate_card, at_us)
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return flow.describe(flow.used_card(ledger, digest), at_us)


def simulate_rates(
    config: Config,
    card: Path,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    by: str = "customer",
    progress: Progress = quiet,
) -> dict[str, Any]:
    """What a rate card's file would have billed, against what was billed, by "customer" or "day". Writes nothing.

    The last 30 days unless a range is named. Raises ConfigError if it is no rate card.
    """
    from .flows import simulate as flow
    from .flows.rules import with_rules

    simulated, (since_us, until_us) = _card(config, card), _range(from_us, to_us)
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return flow.simulate(with_rules(config, ledger), simulated, ledger, since_us, until_us, by, progress)


def _card(config: Config, path: Path | None) -> RateCard:
    return config.rate_card if path is None else read_card(path, "--card")


def _range(from_us: int | None, to_us: int | None) -> tuple[int, int]:
    from .flows.ranges import check_range

    check_range(from_us, to_us)
    until_us = to_us if to_us is not None else SystemClock().now_us()
    return from_us if from_us is not None else until_us - USAGE_DAYS * DAY_US, until_us


def verify_ledger(
    config: Config, *, expect: str | None = None, expect_decisions: str | None = None, progress: Progress = quiet
) -> Verified:
    """Recompute every digest and sum of the ledger. `expect` and `expect_decisions` are heads noted earlier."""
    from .flows import proof
    from .ledger.verify import Noted, parse_head

    entries = parse_head(expect) if expect is not None else None
    decisions = parse_head(expect_decisions) if expect_decisions is not None else None
    return proof.verify_ledger(config.ledger_url, Noted(entries, decisions), progress)


def backup_ledger(config: Config, file: Path, progress: Progress = quiet) -> Verified:
    """Copy the ledger into a new file while others use it, and verify the copy."""
    from .flows import proof

    return proof.backup_ledger(config.ledger_url, file, progress)


def restore_ledger(config: Config, file: Path, progress: Progress = quiet) -> Verified:
    """Fill the empty ledger that the settings name with a backup, and verify both."""
    from .flows import proof

    return proof.restore_ledger(config.ledger_url, file, progress)


def export_ledger(
    config: Config,
    folder: Path,
    *,
    form: str = "csv",
    from_us: int | None = None,
    until_us: int | None = None,
    tables: Sequence[str] = (),
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Write tables of the ledger as "csv" or "parquet" into a new folder; what its manifest says."""
    from .flows import export as flow
    from .flows.ranges import check_range

    check_range(from_us, until_us)
    wanted = flow.Wanted(form, from_us, until_us, tables)
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        return flow.export(ledger, folder, wanted, SystemClock(), progress)
