"""What `tallymark plans` prints."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .console import print_table
from .flows.plan_status import PlanStatus
from .ledger.plans import STAGE_WORDS

COLUMNS = ("plan", "kind", "state", "from", "to", "parts", "rows", "left")


def show_plans(plans: Sequence[PlanStatus]) -> None:
    """A row for each plan, and below what went wrong."""
    if not plans:
        click.echo("nothing was planned for workers yet; `tallymark backfill --workers` plans a backfill.")
        return
    print_table([_row(plan) for plan in plans], COLUMNS)
    for plan in plans:
        if plan.problem:
            click.echo(f"{plan.plan_id}: {plan.problem}")
        for each in plan.problems:
            where = f" from {each.from_}" if each.from_ else ""
            click.echo(f"  part {each.number} ({each.stage}{where}) is {each.state} after {each.tries}: {each.problem}")


def _row(plan: PlanStatus) -> dict[str, object]:
    words = STAGE_WORDS.get(plan.stage, "windows")
    return {
        "plan": plan.plan_id,
        "kind": plan.kind,
        "state": plan.state,
        "from": plan.from_,
        "to": plan.to or "",
        "parts": f"{plan.done:,} of {plan.total:,} {words}",
        "rows": f"{plan.rows:,}",
        "left": f"about {plan.seconds_left:,} s" if plan.seconds_left is not None else "",
    }
