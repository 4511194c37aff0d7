"""`tallymark backfill --plan`: say first what it takes and comes to, and ask whether to go on."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import begin

if TYPE_CHECKING:
    from ..flows.estimate import BackfillEstimate


def estimated(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that reads history the options --plan and --yes. Without the first it is as it was."""

    @click.option("--plan", is_flag=True, help="Estimate first what it takes and comes to, and ask.")
    @click.option("--yes", is_flag=True, help="With --plan: go on without being asked.")
    @functools.wraps(command)
    def first(*, plan: bool, yes: bool, **given: Any) -> None:
        if plan:
            _estimate(yes=yes, **given)
        command(**given)

    return first


def _estimate(
    *,
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    from_us: int | None,
    to_us: int | None,
    yes: bool,
    **_others: Any,
) -> None:
    """Show the estimate, and end here unless somebody wants to go on. With --json nothing is ever started."""
    config = begin(config_file, verbose, quiet)
    from ..console import print_json, progress
    from ..flows.estimate import estimate_backfill

    with progress(not (quiet or as_json)) as step:
        found = estimate_backfill(config, from_us=from_us, to_us=to_us, progress=step)
    if as_json:
        print_json(found)
        sys.exit(0)
    show_estimate(found)
    if not (yes or _is_wanted()):
        sys.exit(0)


def _is_wanted() -> bool:
    if sys.stdin.isatty():
        return click.confirm("Go on?", default=False)
    click.echo("nothing was started: this is no terminal to ask on; --yes goes on without being asked")
    return False


def show_estimate(found: BackfillEstimate) -> None:
    """The estimate as lines for people."""
    least = "at least " if found.meter_events_at_least else "about "
    click.echo(f"backfill from {found.from_} to {found.to}, read by {found.source}; nothing was written")
    click.echo(f"traces         about {found.traces:,} ({found.sampled_traces:,} of them were read as a sample)")
    click.echo(f"customers      at least {found.customers:,}")
    click.echo(f"meter events   {least}{found.meter_events:,}")
    click.echo(f"credits        about {found.credits.about} (by sample {found.credits.low} to {found.credits.high})")
    click.echo(f"which sell for about {found.usd.about} USD (by sample {found.usd.low} to {found.usd.high})")
    for name, side in (("Langfuse", found.langfuse), ("Stripe", found.stripe)):
        click.echo(f"{name:<14} at least {side.requests:,} requests, {_hours(side)}; limit: {side.limit}")
    for reason, traces in sorted(found.results.items()):
        click.echo(f"of the sample  {traces:,} {reason.replace('_', ' ')}")
    for note in found.notes:
        click.echo(f"note           {note}")


def _hours(side: Any) -> str:
    if side.hours is not None:
        return f"{side.hours:g} h"
    return ", ".join(f"{hours:g} h ({name})" for name, hours in side.hours_by_found.items())
