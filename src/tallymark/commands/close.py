"""`tallymark close`: the checklist of a period before its invoices are final."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..errors import ConfigError
from .common import Moment, begin, common


@click.command()
@common
@click.option("--period", help="A calendar month in UTC, such as 2026-11; last for the one that ended last.")
@click.option("--from", "from_us", type=Moment(), help="Instead of --period: from this time on.")
@click.option("--to", "to_us", type=Moment(), help="Instead of --period: before this time.")
@click.option("--customer", "customer_id", help="Only this customer, and what may be theirs.")
def close(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    period: str | None,
    from_us: int | None,
    to_us: int | None,
    customer_id: str | None,
) -> None:
    """Check that everything of a period is billed, before Stripe makes its invoices final; say what to run next."""
    if (period is None) == (from_us is None or to_us is None) or (period is not None and (from_us or to_us)):
        raise ConfigError("name --period 2026-11, or both --from and --to.")
    config = begin(config_file, verbose, quiet)
    from ..api import close_period as ask
    from ..console import print_json
    from ..show_closing import show_closing

    closing = ask(config, period, from_us=from_us, to_us=to_us, customer_id=customer_id)
    print_json(closing) if as_json else show_closing(closing)
    sys.exit(closing.exit_status)
