"""The reading calls of the library: each opens the ledger that the settings name, asks it one thing, and closes it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from .clock import SystemClock
from .config import Config, find_file, load
from .core.clock import DAY_US
from .ledger import open_ledger

USAGE_DAYS = 30
HELD_ROWS = 1000


def load_config(file: Path | None = None) -> Config:
    """Settings from the environment, a file (or tallymark.toml here), and the defaults. Raises ConfigError."""
    return load(find_file(file, Path.cwd()), os.environ)


def explain(config: Config, trace_id: str) -> dict[str, Any]:
    """How a trace became credits, in which meter event, with which answer, and its marks. Raises NotFound."""
    from .flows import explain as flow

    with contextlib.closing(open_ledger(config.ledger_url, read_only=True)) as ledger:
        return flow.explain(ledger, trace_id)


def held(config: Config, reason: str | None = None, limit: int = HELD_ROWS) -> dict[str, Any]:
    """What waits for a person, by reason, with amounts and remedies."""
    from .flows import held as flow

    with contextlib.closing(open_ledger(config.ledger_url, read_only=True)) as ledger:
        return flow.held(ledger, reason, limit)


def receive_stripe_report(config: Config, body: bytes, signature: str | None) -> bool:
    """Take a webhook of Stripe: whether it is a report on usage that was not counted, which is then stored and applied.

    `body` is the request's body as it came, `signature` its header Stripe-Signature. The same webhook again changes
    nothing. Raises NotificationRefused for one that Stripe did not sign: answer it with 400.
    """
    from .flows.reports import receive_report

    return receive_report(config, body, signature)


def usage(
    config: Config,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    customer_id: str | None = None,
    by: str = "customer",
) -> list[dict[str, Any]]:
    """Credits, cost, revenue and margin by "customer", "day" or "model"; the last 30 days unless a range is named."""
    from .flows import usage as flow
    from .flows.ranges import check_range

    check_range(from_us, to_us)
    until_us = to_us if to_us is not None else SystemClock().now_us()
    since_us = from_us if from_us is not None else until_us - USAGE_DAYS * DAY_US
    with contextlib.closing(open_ledger(config.ledger_url, read_only=True)) as ledger:
        return flow.usage(ledger, since_us, until_us, customer_id, by)
