"""`tallymark held`: what waits for a person."""

from __future__ import annotations

from pathlib import Path

import click

from .common import begin, common


@click.group()
def held() -> None:
    """What waits for a person."""


@held.command("list")
@common
@click.option("--reason", help="Only this reason, such as no_customer.")
@click.option("--limit", default=1000, show_default=True, help="At most this many rows.")
def held_list(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, reason: str, limit: int) -> None:
    """List what is held, why, what it is worth, and what to do."""
    config = begin(config_file, verbose, quiet)
    from ..api import held as ask
    from ..console import print_json
    from ..show import show_held

    found = ask(config, reason, limit)
    print_json(found) if as_json else show_held(found)
