"""The demo: the sandbox, a story of traces, and whole runs over them, checked against the sandbox's own tally."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from ..console import print_json
from ..errors import ConfigError
from ..sandbox.langfuse import Generation
from ..sandbox.process import Options, Ready, environment_of, say_as_json
from ..sandbox.process import run as run_services
from . import billing, corrections, doubt
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
    with open_stage(traces or TRACES[story], generation, workload, quiet=quiet or as_json) as stage:
        STORIES[story](stage)
        if as_json:
            print_json({**stage.report, "story": story, "generation": generation, "problems": stage.problems})
        if keep:
            _keep(stage)
        return 1 if stage.problems else 0


def _keep(stage: Stage) -> None:
    stage.say("\nthe sandbox keeps running; stop it with Ctrl-C. To use it from another shell:")
    _say_exports({**stage.sandbox.environment(), "BILLING_LEDGER_URL": stage.config.ledger_url}, stage.say)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _say_exports(environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    for name, value in environment.items():
        say(f"  export {name}={value}")


def run_sandbox(*, port_langfuse: int, port_stripe: int, traces: int, generation: Generation, as_json: bool) -> None:
    """Run only the sandbox until stopped. Raises ConfigError if a port is taken."""

    def announce(ready: Ready) -> None:
        click.echo(f"Langfuse on {ready.langfuse_url}, Stripe on {ready.stripe_url}, {ready.traces:,} traces.")
        click.echo(
            "What they received: /sandbox/requests on both, /sandbox/tally on Stripe. Ctrl-C stops. To use them:"
        )
        _say_exports(environment_of(ready), click.echo)

    options = Options(port_langfuse=port_langfuse, port_stripe=port_stripe, story=traces, generation=generation)
    try:
        run_services(options, say_as_json if as_json else announce)
    except OSError as error:
        raise ConfigError(
            f"the sandbox cannot listen there ({error.strerror}); choose other ports with --port-…."
        ) from error
