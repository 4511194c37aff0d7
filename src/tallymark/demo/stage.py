"""What every story of the demo stands on: a sandbox, settings that lead to it, a clock, and checks that are told."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ..clock import SystemClock
from ..config import Config, load
from ..console import print_table, progress
from ..core.clock import DAY_US
from ..core.credits import MICROS_PER_CREDIT, format_micros
from ..flows.reconcile import reconcile
from ..flows.reconciliation import Reconciliation
from ..flows.summary import SyncSummary
from ..flows.sync import sync
from ..ledger import Ledger, open_ledger
from ..sandbox.clock import OffsetClock
from ..sandbox.langfuse import Generation
from ..sandbox.process import Options, SandboxProcess, start
from ..sandbox.story import Expected, expect, tell
from ..show import show_reconciliation, show_sync

LOOKBACK_US = 45 * DAY_US
CUSTOMERS_SHOWN = 8


class StageClock(OffsetClock):
    """The machine's clock, moved on together with the sandbox's; who sleeps on it lets that time pass at once."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        super().__init__(SystemClock())
        self._sandbox = sandbox
        self._passed_seconds = 0.0

    def sleep(self, seconds: float) -> None:
        """Let the time pass for everyone."""
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        """Move this clock and the sandbox's on."""
        self._passed_seconds += seconds
        self.advance(seconds)
        self._sandbox.advance(seconds)

    def live(self) -> OffsetClock:
        """A clock that shows the same time, and on which waiting takes time again."""
        clock = OffsetClock(SystemClock())
        clock.advance(self._passed_seconds)
        return clock


@dataclass(slots=True)
class Stage:
    """Where a story is told. `expected` is what its traces come to; None for a recorded workload."""

    config: Config
    sandbox: SandboxProcess
    clock: StageClock
    generation: str
    quiet: bool
    expected: Expected | None
    say: Callable[[str], None]
    problems: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def check(self, what: str, holds: bool) -> None:
        """Say whether something holds; remember if it does not."""
        self.say(f"  {'ok ' if holds else 'NOT'} {what}")
        if not holds:
            self.problems.append(what)

    def sync(self, clock: StageClock | None = None, **request: Any) -> SyncSummary:
        """Sync, and show what it did."""
        with progress(not self.quiet) as step:
            summary = sync(self.config, progress=step, clock=clock, **request)
        if not self.quiet:
            show_sync(summary)
        return summary

    def reconcile(self, clock: StageClock | None = None, **request: Any) -> Reconciliation:
        """Reconcile everything that the sandbox has, and show what was found."""
        with progress(not self.quiet) as step:
            from_us = self.sandbox.ready.now_us - LOOKBACK_US
            found, _ = reconcile(self.config, from_us=from_us, progress=step, clock=clock, **request)
        if not self.quiet:
            show_reconciliation(found)
        return found

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger, for reading."""
        with contextlib.closing(open_ledger(self.config.ledger_url, read_only=True)) as ledger:
            yield ledger

    def check_tally(self, *, waiting: bool = False) -> None:
        """The judge is Stripe's own tally, plus what whole-credit rounding left in the carry.

        `waiting`: some meter events wait for a person, and are on neither side.
        """
        with self.ledger() as ledger:
            rows = _balances(ledger, self.sandbox.tally())
        waits = ("waiting_credits",) if waiting else ()
        if not self.quiet:
            columns = ("customer", "stripe_credits", "carry", *waits, "entries")
            print_table(rows[:CUSTOMERS_SHOWN], columns, "the first customers, in credits")
        what = f"Stripe's tally + carry{' + what waits' if waiting else ''} = entries, for every customer"
        self.check(what, all(row["equal"] and (waiting or not row["waiting_credits"]) for row in rows))

    def credits_by_customer(self) -> dict[str, str]:
        """What the ledger's lines come to for each customer."""
        with self.ledger() as ledger:
            return {row["customer_id"]: format_micros(row["entries_micros"]) for row in ledger.query("balances")}

    def expected_by_customer(self) -> dict[str, str]:
        """What the story's own arithmetic says."""
        micros = self.expected.micros if self.expected is not None else {}
        return {customer: format_micros(amount) for customer, amount in micros.items()}


def _balances(ledger: Ledger, tally: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "customer": row["customer_id"],
            "stripe_credits": tally.get(row["customer_id"], 0),
            "carry": format_micros(row["carry_micros"]),
            "waiting_credits": row["owed_credits"],
            "entries": format_micros(row["entries_micros"]),
            "equal": (tally.get(row["customer_id"], 0) + row["owed_credits"]) * MICROS_PER_CREDIT + row["carry_micros"]
            == row["entries_micros"],
        }
        for row in ledger.query("balances")
    ]


@contextlib.contextmanager
def open_stage(
    traces: int, generation: str, workload: tuple[Path, ...], *, quiet: bool, settings: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """Start a sandbox and fill it; the ledger is a throw-away file."""
    say: Callable[[str], None] = (lambda line: None) if quiet else click.echo
    server = "Langfuse 3" if generation == "traces" else "Langfuse 4 (events_only)"
    say(f"starting the sandbox: a local {server} and Stripe, {_size(traces, workload)}")
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(start(_options(traces, generation, workload)))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tallymark-demo-"))
        ledger_url = f"sqlite:///{folder}/ledger.sqlite3"
        config = load(None, {**sandbox.environment(), "BILLING_LEDGER_URL": ledger_url, **(settings or {})})
        expected = None if workload else expect(tell(traces, sandbox.ready.now_us))
        yield Stage(config, sandbox, StageClock(sandbox), generation, quiet, expected, say)


def _options(traces: int, generation: str, workload: tuple[Path, ...]) -> Options:
    server: Generation = "legacy" if generation == "traces" else "events_only"
    return Options(generation=server, story=0 if workload else traces, workload=tuple(str(path) for path in workload))


def _size(traces: int, workload: tuple[Path, ...]) -> str:
    return f"filled from {', '.join(path.name for path in workload)}" if workload else f"{traces:,} traces"
