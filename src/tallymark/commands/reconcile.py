"""`tallymark reconcile`: Langfuse, ledger and Stripe side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .common import Moment, begin, common


@click.command()
@common
@click.option("--from", "from_us", type=Moment(), help="From this time on; the look-back unless given.")
@click.option("--to", "to_us", type=Moment(), help="Up to this time.")
@click.option(
    "--by",
    type=click.Choice(["hour", "day"]),
    help="How wide a compared window is; an hour unless buckets are wider.",
)
@click.option("--repair", is_flag=True, help="First do what is safe: bill, settle doubts, write marks.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a report too: FILE.html or FILE.csv.")
def reconcile(
    config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, report: Path | None, **options: Any
) -> None:
    """Compare Langfuse, ledger and Stripe; name the cause of every difference."""
    config = begin(config_file, verbose, quiet)
    from ..console import print_json, progress
    from ..flows.reconcile import reconcile as run
    from ..reconciliation_report import check_name, write_report
    from ..show import show_reconciliation

    check_name(report)
    with progress(not (quiet or as_json)) as step:
        found, audit = run(config, progress=step, **options)
    if report is not None:
        write_report(report, found, audit)
    print_json(found) if as_json else show_reconciliation(found)
    sys.exit(found.exit_status)
