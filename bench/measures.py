"""What is measured: each function runs its jobs in fresh processes and returns figures."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tallymark.sandbox.process import SandboxProcess
from tallymark.source.observations import EXPANDED, FIELDS

from .child import Measured, run
from .figures import Figure
from .workloads import TARGETS_AT_TRACES, Workload

RUNS = 3
START_RUNS = 7
COLLECT_RATIO_MAX = 2.5
PEAK_MEGABYTES_MAX = 200
GROWTH_RATIO_MAX = 1.2
SECOND_SYNC_EXTRA_REQUESTS_MAX = 3


class WrongResultError(Exception):
    """A job did not do what it was measured for: its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where jobs work: the sandbox, what it is filled with, how many traces that are, and a folder for ledgers."""

    sandbox: SandboxProcess
    workload: Workload
    traces: int
    folder: Path

    @property
    def title(self) -> str:
        """How many traces of which kind, for people."""
        return f"{self.traces:,} {self.workload.name}"

    def ledger(self, name: str) -> Path:
        """The file of a ledger."""
        return self.folder / f"{name}.sqlite3"

    def at_size(self, target: int | None) -> int | None:
        """A target for a number of requests; None if this is not the size that it is for."""
        return target if self.traces == TARGETS_AT_TRACES else None

    def run(self, job: str, ledger: Path) -> Measured:
        """Run a job against the sandbox with that ledger."""
        return run(job, self.environment(ledger))

    def environment(self, ledger: Path) -> dict[str, str]:
        """Settings that lead to the sandbox and that ledger."""
        return self.sandbox.environment() | {
            "BILLING_LEDGER_URL": f"sqlite:///{ledger.as_posix()}",
            # So high that tallymark's own pace is not what is measured.
            "BILLING_STRIPE_REQUESTS_PER_SECOND": "100000",
            "BENCH_LEDGER": str(ledger),
            "BENCH_OBSERVATION_FIELDS": FIELDS,
            "BENCH_EXPANDED_METADATA": EXPANDED,
        }


def collect(place: Place) -> Iterator[Figure]:
    """Reading, rating and the ledger against a loop that downloads and discards the same rows.

    Raises WrongResultError if they were not the same.
    """
    download = place.workload.download
    # Once unmeasured: the sandbox remembers sums that it computes on a first reading, which favours who comes second.
    place.run(download, place.ledger("none"))
    pairs = [
        (place.run(download, place.ledger("none")), place.run("bench.ours:collect", place.ledger(f"{number}")))
        for number in range(RUNS)
    ]
    for bare, ours in pairs:
        _require("rows read", ours.counts["rows"], bare.counts["rows"])
    read = pairs[0][1].counts
    requests_max = place.at_size(place.workload.read_requests_max)
    group = f"Collect {place.title} (median of {RUNS} alternating runs, fresh process and ledger each)"
    yield Figure(group, "rows read", read["rows"])
    yield Figure(group, "requests to Langfuse", read["requests"], "", requests_max)
    yield Figure(group, "bare loop, seconds", median(bare.wall_seconds for bare, _ in pairs), "s")
    yield Figure(group, "bare loop, CPU seconds", median(bare.cpu_seconds for bare, _ in pairs), "s")
    yield Figure(group, "collect, seconds", median(ours.wall_seconds for _, ours in pairs), "s")
    yield Figure(group, "collect, CPU seconds", median(ours.cpu_seconds for _, ours in pairs), "s")
    yield Figure(group, "collect / bare loop", _ratio(pairs), "×", COLLECT_RATIO_MAX)


def _ratio(pairs: Sequence[tuple[Measured, Measured]]) -> float:
    """Ours to theirs, pair by pair, so that a machine that slows down between pairs slows both."""
    return median(ours.wall_seconds / bare.wall_seconds for bare, ours in pairs)


def send(place: Place) -> Iterator[Figure]:
    """Sending what `collect` recorded, against posting the same bodies with nothing around."""
    pairs = []
    for number in range(RUNS):
        ours = place.run("bench.ours:send", place.ledger(f"{number}"))
        pairs.append((place.run("bench.bare:post", place.ledger(f"{number}")), ours))
    for bare, ours in pairs:
        _require("meter events posted", bare.counts["meter_events"], ours.counts["meter_events"])
    group = f"Send {pairs[0][1].counts['meter_events']:,} meter events (median of {RUNS} alternating runs, 8 threads)"
    yield Figure(group, "bare posts, meter events a second", median(_rate(bare) for bare, _ in pairs), "/s")
    yield Figure(group, "send flow with the official SDK, a second", median(_rate(ours) for _, ours in pairs), "/s")
    yield Figure(group, "send / bare posts, time", _ratio(pairs), "×")


def _rate(measured: Measured) -> float:
    return measured.counts["meter_events"] / measured.wall_seconds


def first_sync(place: Place) -> tuple[list[Figure], Measured]:
    """The whole first sync: collect, send, mark. Raises WrongResultError if it billed anything but what it should."""
    measured = place.run("bench.ours:sync", place.ledger("sync"))
    counts = measured.counts
    expected = place.workload.expected(place.traces, place.sandbox.ready.now_us)
    _require("traces processed", counts["processed"], expected.processed)
    _require("micro-credits", counts["credits_micros"], expected.amount_micros)
    group = f"First sync of {place.title}"
    requests_max = place.at_size(place.workload.sync_requests_max)
    figures = [
        Figure(group, "seconds", measured.wall_seconds, "s"),
        Figure(group, "CPU seconds", measured.cpu_seconds, "s"),
        Figure(group, "traces a second", place.traces / measured.wall_seconds, "/s"),
        Figure(group, "peak memory", measured.peak_megabytes, "MB", PEAK_MEGABYTES_MAX),
        Figure(group, "requests to Langfuse, marks included", counts["requests"], "", requests_max),
        Figure(group, "meter events (target: customers × hours touched)", counts["meter_events"], "", expected.lanes),
    ]
    if place.workload.generation == "legacy":
        figures.append(Figure(group, "requests to Langfuse for a single trace", _single_trace_requests(place), "", 0))
    return figures, measured


def _single_trace_requests(place: Place) -> int:
    return place.sandbox.counts("langfuse").get("GET /api/public/traces/{traceId}", 0)


def second_sync(place: Place) -> Iterator[Figure]:
    """A sync with nothing new: it reads the overlap and sends nothing."""
    measured = place.run("bench.ours:sync", place.ledger("sync"))
    overlap_pages = -(-measured.counts["fetched"] * place.workload.rows_per_trace // place.workload.page_rows)
    group = f"Second sync of {place.title} with nothing new"
    requests_max = overlap_pages + SECOND_SYNC_EXTRA_REQUESTS_MAX
    yield Figure(group, "seconds", measured.wall_seconds, "s")
    yield Figure(group, "pages of the overlap", overlap_pages)
    yield Figure(group, "requests to Langfuse", measured.counts["requests"], "", requests_max)
    yield Figure(group, "meter events", measured.counts["meter_events"], "", 0)
    yield Figure(group, "marks", measured.counts["marks"], "", 0)


def growth(place: Place, small: Measured, large: Measured) -> Figure:
    """How much more memory ten times the traces take: at this place, and at one that holds a tenth."""
    ratio = large.peak_megabytes / small.peak_megabytes
    return Figure(f"Growth to {place.title}", "peak memory of the first sync", ratio, "×", GROWTH_RATIO_MAX)


def start() -> Iterator[Figure]:
    """How long the command takes to say its version or its help, against the interpreter alone."""
    if importlib.util.find_spec("tallymark.__main__") is None:
        return
    group = f"Start (median of {START_RUNS} alternating runs)"
    commands = {
        "python -c pass": ["-c", "pass"],
        "tallymark --version": ["-m", "tallymark", "--version"],
        "tallymark --help": ["-m", "tallymark", "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(START_RUNS):
        for name, arguments in commands.items():
            taken[name].append(_seconds_of(arguments))
    for name, seconds in taken.items():
        yield Figure(group, name, 1000 * median(seconds), "ms")


def _seconds_of(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _require(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise WrongResultError(f"{what}: {found:,}, but it should be {expected:,}")
