"""`tallymark rates`: what a rate card says, what is wrong with it, and what it would have billed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .common import Moment, begin, common

CARD = click.Path(path_type=Path)


@click.group()
def rates() -> None:
    """Rate cards: check one, show one, and see what one would have billed."""


@rates.command("check")
@common
@click.option("--card", type=CARD, help="A rate card's file; the card of the settings unless given.")
def rates_check(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, card: Path | None) -> None:
    """Check a rate card: rules, values that look wrong, models without a token rate, and what it does to history."""
    config = begin(config_file, verbose, quiet)
    from ..api import check_rates
    from ..console import print_json
    from ..flows.rates import status_of
    from ..show import show_checked_card

    checked = check_rates(config, card)
    print_json(checked) if as_json else show_checked_card(checked)
    sys.exit(status_of(checked))


@rates.command("show")
@common
@click.option("--at", "at_us", type=Moment(), help="Only the rule that holds at this time.")
@click.option("--digest", help="A card that the ledger used; the card of the settings unless given.")
def rates_show(
    config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, at_us: int | None, digest: str | None
) -> None:
    """Show a rate card: its rules, prices and margins, from when to when, and its digest."""
    config = begin(config_file, verbose, quiet)
    from ..api import show_rates
    from ..console import print_json
    from ..show import show_card

    card = show_rates(config, digest, at_us)
    print_json(card) if as_json else show_card(card)


@rates.command("simulate")
@common
@click.option("--card", type=CARD, required=True, help="The rate card's file.")
@click.option("--from", "from_us", type=Moment(), help="Usage from this time on; 30 days unless given.")
@click.option("--to", "to_us", type=Moment(), help="Usage up to this time.")
@click.option(
    "--by",
    type=click.Choice(["customer", "day"]),
    default="customer",
    show_default=True,
    help="What a row stands for.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv"]),
    default="table",
    show_default=True,
    help="How rows are printed.",
)
def rates_simulate(
    config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, card: Path, form: str, **options: Any
) -> None:
    """Show what a rate card would have billed, against what was billed; nothing is written."""
    config = begin(config_file, verbose, quiet)
    from ..api import simulate_rates
    from ..console import print_csv, print_json, progress
    from ..flows.simulate import COLUMNS
    from ..show import show_simulation

    with progress(not (quiet or as_json)) as step:
        found = simulate_rates(config, card, progress=step, **options)
    if as_json:
        print_json(found)
    elif form == "csv":
        print_csv(found["rows"], COLUMNS)
    else:
        show_simulation(found)
