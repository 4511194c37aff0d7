"""`tallymark ledger`: prove the ledger, keep copies of it, and give its tables to others."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .common import Moment, begin, common

TABLES = ("entries", "meter_events", "decisions", "traces", "balances")


@click.group()
def ledger() -> None:
    """Verify, back up, restore and export the ledger."""


@ledger.command("verify")
@common
@click.option("--expect", metavar="HEAD", help="A head of the entries that was noted earlier, as LENGTH:DIGEST.")
@click.option("--expect-decisions", metavar="HEAD", help="A head of the decisions that was noted earlier.")
def ledger_verify(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    expect: str | None,
    expect_decisions: str | None,
) -> None:
    """Recompute every digest and every sum, and name each row that does not hold."""
    config = begin(config_file, verbose, quiet)
    from ..api import verify_ledger
    from ..console import print_json, progress
    from ..show_ledger import show_verified, verified_as_json

    with progress(not (quiet or as_json)) as step:
        verified = verify_ledger(config, expect=expect, expect_decisions=expect_decisions, progress=step)
    print_json(verified_as_json(verified)) if as_json else show_verified(verified)
    sys.exit(0 if verified.holds else 1)


@ledger.command("backup")
@common
@click.argument("file", type=click.Path(path_type=Path))
def ledger_backup(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, file: Path) -> None:
    """Copy the ledger into a new SQLite file while others use it, and verify the copy."""
    config = begin(config_file, verbose, quiet)
    from ..api import backup_ledger
    from ..console import print_json, progress
    from ..show_ledger import copied_as_json, show_backup

    with progress(not (quiet or as_json)) as step:
        verified = backup_ledger(config, file, step)
    print_json(copied_as_json(verified, file)) if as_json else show_backup(verified, file)


@ledger.command("restore")
@common
@click.argument("file", type=click.Path(path_type=Path))
def ledger_restore(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, file: Path) -> None:
    """Fill the ledger that the settings name, which must be empty, with a backup, and verify both."""
    config = begin(config_file, verbose, quiet)
    from ..api import restore_ledger
    from ..console import print_json, progress
    from ..show_ledger import copied_as_json, show_restored

    with progress(not (quiet or as_json)) as step:
        verified = restore_ledger(config, file, step)
    print_json(copied_as_json(verified, file)) if as_json else show_restored(verified, file)


@ledger.command("export")
@common
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet"]),
    default="csv",
    show_default=True,
    help="How tables are written; Parquet needs tallymark[bulk].",
)
@click.option("--from", "from_us", type=Moment(), help="Only what is of this time or later.")
@click.option("--until", "until_us", type=Moment(), help="Only what is before this time.")
@click.option("--table", "tables", multiple=True, type=click.Choice(TABLES), help="Only this table; may be repeated.")
def ledger_export(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    folder: Path,
    form: str,
    from_us: int | None,
    until_us: int | None,
    tables: tuple[str, ...],
) -> None:
    """Write entries, meter events, decisions, traces and balances as files, with a manifest."""
    config = begin(config_file, verbose, quiet)
    from ..api import export_ledger
    from ..console import print_json, progress
    from ..show_ledger import show_exported

    with progress(not (quiet or as_json)) as step:
        manifest = export_ledger(
            config, folder, form=form, from_us=from_us, until_us=until_us, tables=tables, progress=step
        )
    print_json({"folder": str(folder), **manifest}) if as_json else show_exported(manifest, folder)
