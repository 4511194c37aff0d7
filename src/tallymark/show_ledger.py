"""What was verified, copied and exported of a ledger, as people and as scripts read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .console import print_table
from .ledger.verify import Verified


def verified_as_json(verified: Verified) -> dict[str, Any]:
    """What verifying found."""
    return {"holds": verified.holds, **asdict(verified)}


def show_verified(verified: Verified) -> None:
    """Each check with its rows; the rows that do not hold; and the heads to keep."""
    print_table([asdict(counted) for counted in verified.checks], ("check", "rows", "findings"))
    if verified.holds:
        _show_heads(verified)
        click.echo("everything holds. Keep the heads outside the ledger: `--expect` compares with them later.")
        return
    count = sum(counted.findings for counted in verified.checks)
    print_table([asdict(each) for each in verified.findings], ("check", "row", "detail"), "what does not hold")
    if count > len(verified.findings):
        click.echo(f"these are the first {len(verified.findings)} of {count:,}")
    for remedy in dict.fromkeys(finding.remedy for finding in verified.findings):
        click.echo(f"what to do: {remedy}")


def copied_as_json(verified: Verified, file: Path) -> dict[str, Any]:
    """What was copied from or to a file."""
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "ledger_id": verified.ledger_id,
        "entries": verified.entries,
        "decisions": verified.decisions,
    }


def show_backup(verified: Verified, file: Path) -> None:
    """Where a backup is, and what it holds."""
    click.echo(f"backed up to {file}, {file.stat().st_size:,} bytes; the copy verifies")
    _show_heads(verified)


def show_restored(verified: Verified, file: Path) -> None:
    """What a ledger was filled with, and what that means for the one that it was copied from."""
    click.echo(f"restored from {file}; the ledger verifies")
    _show_heads(verified)
    click.echo(
        f"It is the ledger {verified.ledger_id} and goes on where the backup stands: never use the one that the "
        "backup was made from again, or both bill under the same identifiers."
    )


def show_exported(manifest: Mapping[str, Any], folder: Path) -> None:
    """Which files were written."""
    print_table(manifest["files"], ("table", "file", "rows", "sha256"))
    click.echo(
        f"written to {folder}, with a manifest; entries {manifest['entries']}, decisions {manifest['decisions']}"
    )


def _show_heads(verified: Verified) -> None:
    click.echo(f"entries {verified.entries}, decisions {verified.decisions}")
