"""`tallymark worker` and `tallymark plans`: many workers on one ledger, and how far they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .common import begin, common

F = TypeVar("F", bound=Callable[..., Any])
EXIT_STOPPED = 130
QUEUES = ("collect", "send", "mark")


def working() -> Any:
    """The module of the flow. Raises ConfigError if the packages for workers are missing."""
    from ..errors import ConfigError

    try:
        from ..flows import working as found
    except ImportError as error:
        raise ConfigError(
            f"workers need packages that are missing ({error}); pip install 'tallymark[worker]'."
        ) from error
    return found


@click.command()
@common
@click.option(
    "--concurrency", type=click.IntRange(1, 64), default=1, show_default=True, help="How many jobs to do side by side."
)
@click.option(
    "--queue",
    "queues",
    type=click.Choice(QUEUES),
    multiple=True,
    help="Only this kind of work: to read windows, to send, or to write marks. May be given twice.",
)
@click.option("--until-idle", is_flag=True, help="End when no plan goes on, instead of waiting for the next one.")
def worker(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    concurrency: int,
    queues: tuple[str, ...],
    until_idle: bool,
) -> None:
    """Do what `sync --workers` and `backfill --workers` have planned, with all other workers on this ledger.

    Needs the ledger in PostgreSQL. Start as many as you like, on any machines, and stop them at any time: what one
    leaves, another takes up. Ctrl-C, or SIGTERM, ends it between two steps.
    """
    config = begin(config_file, verbose, quiet)
    from ..console import print_json

    flow = working()
    if not (quiet or as_json):
        click.echo("tallymark works until it is stopped; Ctrl-C stops." if not until_idle else "tallymark works.")
    stopped = flow.work(config, queues or QUEUES, concurrency, until_idle=until_idle)
    if as_json:
        print_json({"stopped": stopped})
    sys.exit(EXIT_STOPPED if stopped else 0)


def by_workers(command: F) -> F:
    """The options of a command that workers can do."""
    for option in (
        click.option("--no-wait", "workers", flag_value="leave", help="Plan it for workers, and leave it to them."),
        click.option("--workers", flag_value="wait", help="Let workers do it (`tallymark worker`), and wait for them."),
    ):
        command = option(command)
    return command


def run_by_workers(kind: str, as_json: bool, how: str, config: Any, *, progress: Any, **options: Any) -> Any:
    """Plan a backfill or a sync for workers, and wait for it if `how` is "wait"; its summary. Ctrl-C leaves it."""
    if options.pop("dry_run", False) or options.pop("trace_id", None):
        raise click.UsageError("--workers goes with neither --trace nor --dry-run; leave one of them out.")
    flow = working()
    plan_id = flow.plan_for_workers(config, kind, progress=progress, **options)
    from ..flows.plan_status import one_plan, wait_for

    if how == "leave":
        _show([one_plan(config, plan_id)], as_json)
        sys.exit(0)
    try:
        return wait_for(config, plan_id, progress)
    except KeyboardInterrupt:
        click.echo(
            "tallymark: the workers go on with it; `tallymark plans` shows how far they are, and "
            f"`tallymark plans --cancel {plan_id}` ends it.",
            err=True,
        )
        sys.exit(EXIT_STOPPED)


@click.command()
@common
@click.option("--cancel", "plan_id", help="End this plan; what was recorded stays.")
@click.option("--limit", type=click.IntRange(1, 100), default=5, show_default=True, help="How many to show.")
def plans(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, plan_id: str | None, limit: int) -> None:
    """Show what workers are at, and how far: the newest plans, with what went wrong."""
    config = begin(config_file, verbose, quiet)
    from ..flows.plan_status import cancel_plan, list_plans

    _show([cancel_plan(config, plan_id)] if plan_id is not None else list_plans(config, limit), as_json)


def _show(found: Any, as_json: bool) -> None:
    from ..console import print_json
    from ..show_plans import show_plans

    print_json({"plans": found}) if as_json else show_plans(found)
