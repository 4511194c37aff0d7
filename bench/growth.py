"""How the cost of a trace grows: with the history behind it, with customers, with observations. And the ledger's size.

Every server here computes its answers (bench/generated.py), so that a long history costs nothing to fill.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tallymark.sandbox.process import SandboxProcess

from .child import Measured, require, run
from .figures import Figure
from .generated import Options, arrive, start

HISTORIES = (0, 40_000, 100_000)
ARRIVALS = 2_000
IDLE_RUNS = 3
CUSTOMERS = (10, 1_000, 10_000)
CUSTOMERS_TRACES = 10_000
OBSERVATIONS = (1, 5, 50)
OBSERVATIONS_TRACES = 1_000
# All of a generated history, which is longer than what a first sync reads by default.
SETTINGS = {"BILLING_SYNC_LOOKBACK_DAYS": "34", "BILLING_STRIPE_REQUESTS_PER_SECOND": "100000"}


class Station(NamedTuple):
    """A server with computed answers, and a ledger in a file."""

    server: SandboxProcess
    ledger: Path

    def run(self, job: str) -> Measured:
        """Run a job between the two."""
        url = {"BILLING_LEDGER_URL": f"sqlite:///{self.ledger.as_posix()}"}
        return run(job, self.server.environment() | SETTINGS | url)


@contextmanager
def opened(options: Options) -> Iterator[Station]:
    """Start a server, with an empty ledger."""
    with tempfile.TemporaryDirectory(prefix="tallymark-bench-") as folder, start(options) as server:
        yield Station(server, Path(folder) / "ledger.sqlite3")


def measure(share: float) -> Iterator[Figure]:
    """All three, with this share of the traces (1 for all)."""

    def part(traces: int) -> int:
        return round(traces * share)

    yield from _histories([part(traces) for traces in HISTORIES], max(part(ARRIVALS), 1))
    yield from _customers(max(part(CUSTOMERS_TRACES), 10))
    yield from _observations(max(part(OBSERVATIONS_TRACES), 10))


def _histories(histories: list[int], arrivals: int) -> Iterator[Figure]:
    group = f"With a history: an idle sync (median of {IDLE_RUNS}), and one of {arrivals:,} new traces"
    found = [_after(history, arrivals) for history in histories]
    for history, (idle, new, _) in zip(histories, found, strict=True):
        yield Figure(group, f"idle, after {history:,} traces", idle, "s", key=f"growth.idle.{history}")
        yield Figure(group, f"{arrivals:,} new, after {history:,} traces", new, "s", key=f"growth.new.{history}")
    yield Figure(group, "idle, the longest history / none", found[-1][0] / found[0][0], "×", key="growth.idle")
    yield Figure(group, "new, the longest history / none", found[-1][1] / found[0][1], "×", key="growth.new")
    size = (found[-1][2] - found[0][2]) / (histories[-1] - histories[0])
    yield Figure(
        "Size of the ledger in SQLite", "a trace of the list, sent and marked", size, "bytes", key="size.trace"
    )


def _after(history: int, arrivals: int) -> tuple[float, float, int]:
    """Seconds of an idle sync, and of one with new traces, behind a history; and the size of the ledger in bytes."""
    with opened(Options(traces=history)) as station:
        first = station.run("bench.ours:sync")
        require("traces of the history", first.counts["processed"], history)
        idle = median(station.run("bench.ours:sync").wall_seconds for _ in range(IDLE_RUNS))
        arrive(station.server, arrivals)
        new = station.run("bench.ours:sync")
        require("new traces", new.counts["processed"], arrivals)
        return idle, new.wall_seconds, station.ledger.stat().st_size


def _customers(traces: int) -> Iterator[Figure]:
    group = f"With customers: {traces:,} traces, in hour buckets"
    found = []
    for customers in CUSTOMERS:
        with opened(Options(traces=traces, customers=customers)) as station:
            collected, sent = station.run("bench.ours:collect"), station.run("bench.ours:send")
            meter_events = sent.counts["meter_events"]
            found.append(
                (
                    collected.wall_seconds / traces,
                    sent.wall_seconds / meter_events,
                    meter_events,
                    station.ledger.stat().st_size,
                )
            )
            named = f"of {customers:,} customers"
            yield Figure(
                group, f"collect a trace {named}", 1e6 * found[-1][0], "µs", key=f"growth.customers.{customers}"
            )
            yield Figure(group, f"send one of {meter_events:,} meter events {named}", 1e3 * found[-1][1], "ms")
    yield Figure(group, "collect, most customers / fewest", found[-1][0] / found[0][0], "×", key="growth.customers")
    yield Figure(group, "send, most customers / fewest", found[-1][1] / found[0][1], "×", key="growth.customers_send")
    size = (found[-1][3] - found[0][3]) / (found[-1][2] - found[0][2])
    yield Figure(
        "Size of the ledger in SQLite", "a meter event with its attempt", size, "bytes", key="size.meter_event"
    )


def _observations(traces: int) -> Iterator[Figure]:
    group = f"With observations: {traces:,} traces, read through observations"
    found = []
    for parts in OBSERVATIONS:
        with opened(Options(traces=traces, observations_per_trace=parts, generation="events_only")) as station:
            seconds = station.run("bench.ours:collect").wall_seconds
            found.append((seconds, station.ledger.stat().st_size))
        yield Figure(
            group, f"collect a trace of {parts}", 1e6 * seconds / traces, "µs", key=f"growth.observations.{parts}"
        )
    added = OBSERVATIONS[-1] - OBSERVATIONS[0]
    yield Figure(
        group,
        "one more observation",
        1e6 * (found[-1][0] - found[0][0]) / traces / added,
        "µs",
        key="growth.observation",
    )
    ratio = (found[-1][0] / OBSERVATIONS[-1]) / (found[0][0] / OBSERVATIONS[0])
    yield Figure(group, "an observation of many / of a trace of one", ratio, "×", key="growth.observations")
    size = (found[-1][1] - found[0][1]) / traces / added
    yield Figure("Size of the ledger in SQLite", "an observation", size, "bytes", key="size.observation")
