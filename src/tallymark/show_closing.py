"""The checklist of a period, as people read it."""

from __future__ import annotations

import click

from .console import print_table
from .flows.closing import Closing

COLUMNS = ("check", "result", "credits", "traces", "detail")


def show_closing(closing: Closing) -> None:
    """Each line of the checklist; what to run next, in its order; and the heads to keep."""
    rows = [
        {
            "check": line.check,
            "result": "pass" if line.passed else "FAIL",
            "credits": line.credits,
            "traces": f"{line.traces:,}" if line.traces is not None else None,
            "detail": line.detail,
        }
        for line in closing.checks
    ]
    whose = f" of {closing.customer}" if closing.customer else ""
    print_table(rows, COLUMNS, f"usage{whose} from {closing.from_}, before {closing.to}")
    commands = dict.fromkeys(line.run for line in closing.checks if line.run)
    if commands:
        click.echo("run next, in this order:")
    for command in commands:
        click.echo(f"  {command}")
    if closing.passed:
        click.echo("everything is billed. Keep these heads with the invoices; later, they prove the ledger:")
        click.echo(f"  tallymark ledger verify --expect {closing.entries} --expect-decisions {closing.decisions}")
