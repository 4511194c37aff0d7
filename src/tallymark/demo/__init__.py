"""The demo: the sandbox, a story of traces, and whole runs over them, checked against the sandbox's own tally."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..console import print_json
from ..errors import ConfigError
from ..sandbox.process import Options, Ready, environment_of, say_as_json
from ..sandbox.process import run as run_services
from . import billing, corrections, doubt
from .keeping import INSTALL, Dashboard, keep_open
from .stage import Stage, open_stage

STORIES: Mapping[str, Callable[[Stage], None]] = {
    "billing": billing.tell_story,
    "doubt": doubt.tell_story,
    "corrections": corrections.tell_story,
}
TRACES = {"billing": 40_000, "doubt": 300, "corrections": 10_000}


def run(
    *,
    story: str,
    traces: int | None,
    generation: str,
    workload: tuple[Path, ...],
    keep: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a story of the demo; returns its exit status: 0 if every check holds."""
    settings = {"BILLING_API_TOKEN": secrets.token_urlsafe(16)} if keep else {}
    with open_stage(traces or TRACES[story], generation, workload, quiet=quiet or as_json, settings=settings) as stage:
        STORIES[story](stage)

        def say_as_json(**more: Any) -> None:
            report = {**stage.report, "story": story, "generation": generation, "problems": stage.problems}
            print_json({**report, **more})

        if keep:
            keep_open(stage, say_as_json if as_json else partial(_announce, stage))
        elif as_json:
            say_as_json()
        return 1 if stage.problems else 0


def _announce(stage: Stage, dashboard: Dashboard | None) -> None:
    """Say what is there to look at; the exports only to who wants to hear more than results."""
    stage.say("\nthe sandbox keeps running. To use it from another shell:")
    _say_exports({**stage.sandbox.environment(), "BILLING_LEDGER_URL": stage.config.ledger_url}, stage.say)
    if dashboard is None:
        click.echo(f"the dashboard needs more packages: {INSTALL}; Ctrl-C stops.")
    else:
        click.echo(f"\nthe dashboard is on {dashboard.url}; sign in with {dashboard.token}; Ctrl-C stops.")


def _say_exports(environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    for name, value in environment.items():
        say(f"  export {name}={value}")


def run_sandbox(options: Options, *, as_json: bool) -> None:
    """Run only the sandbox until stopped. Raises ConfigError if a port is taken."""

    def announce(ready: Ready) -> None:
        click.echo(f"Langfuse on {ready.langfuse_url}, Stripe on {ready.stripe_url}, {ready.traces:,} traces.")
        click.echo(
            "What they received: /sandbox/requests on both, /sandbox/tally on Stripe. Ctrl-C stops. To use them:"
        )
        _say_exports(environment_of(ready), click.echo)

    try:
        run_services(options, say_as_json if as_json else announce)
    except OSError as error:
        raise ConfigError(
            f"the sandbox cannot listen there ({error.strerror}); choose other ports with --port-…."
        ) from error
