"""What is measured: each function runs its jobs in fresh processes and returns figures."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tallymark.sandbox.process import SandboxProcess
from tallymark.source.observations import EXPANDED, FIELDS

from .child import Measured, require, run
from .figures import Figure
from .profile import shares
from .workloads import TARGETS_AT_TRACES, Expected, Workload

# What is measured with few traces is only tried out.
RUNS, RUNS_OF_FEW, FEW_TRACES = 3, 1, 10_000
START_RUNS = 7
COLLECT_RATIO_MAX = 1.5
PEAK_MEGABYTES_MAX = 150
METER_EVENTS_PER_SECOND_MIN = 400
ACKNOWLEDGED_SECONDS_MAX = 30
SECOND_SYNC_EXTRA_REQUESTS_MAX = 3
VERSION_EXTRA_MILLISECONDS_MAX = 100
CLASSIC_TRACES, CLASSIC_TRACES_WITH_PAUSES = 1_000, 300


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

    @property
    def runs(self) -> int:
        """How often a job and its rival are run, of which the median counts."""
        return RUNS_OF_FEW if self.traces < FEW_TRACES else RUNS

    def ledger(self, name: str) -> Path:
        """The file of a ledger."""
        return self.folder / f"{name}.sqlite3"

    def at_size(self, target: int | None) -> int | None:
        """A target for a number of requests; None if this is not the size that it is for."""
        return target if self.traces == TARGETS_AT_TRACES else None

    def run(self, job: str, ledger: Path, **more: str) -> Measured:
        """Run a job against the sandbox with that ledger, and more variables in its environment."""
        return run(job, self.environment(ledger) | more)

    def environment(self, ledger: Path) -> dict[str, str]:
        """Settings that lead to the sandbox and that ledger."""
        return self.sandbox.environment() | {
            "BILLING_LEDGER_URL": f"sqlite:///{ledger.as_posix()}",
            # So high that tallymark's own pace is not what is measured.
            "BILLING_STRIPE_REQUESTS_PER_SECOND": "100000",
            "BENCH_LEDGER": str(ledger),
            "BENCH_GENERATION": self.workload.generation,
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
        for number in range(place.runs)
    ]
    for bare, ours in pairs:
        require("rows read", ours.counts["rows"], bare.counts["rows"])
    read = pairs[0][1].counts
    requests_max = place.at_size(place.workload.read_requests_max)
    group = f"Collect {place.title} (median of {place.runs} alternating runs, fresh process and ledger each)"
    key = f"collect.{place.workload.key}"
    yield Figure(group, "rows read", read["rows"])
    yield Figure(group, "requests to Langfuse", read["requests"], "", requests_max)
    yield Figure(group, "bare loop, seconds", median(bare.wall_seconds for bare, _ in pairs), "s", key=f"{key}.bare")
    yield Figure(group, "bare loop, CPU seconds", median(bare.cpu_seconds for bare, _ in pairs), "s")
    yield Figure(group, "collect, seconds", median(ours.wall_seconds for _, ours in pairs), "s", key=f"{key}.seconds")
    yield Figure(group, "collect, CPU seconds", median(ours.cpu_seconds for _, ours in pairs), "s")
    yield Figure(group, "collect / bare loop", _ratio(pairs), "×", COLLECT_RATIO_MAX, key=f"{key}.ratio")
    reading = place.run("bench.profile:read", place.ledger("none"))
    group = f"Where reading {place.title} alone spends its time"
    yield from shares(group, reading.counts["profile"], f"profile.read.{place.workload.key}")


def _ratio(pairs: Sequence[tuple[Measured, Measured]]) -> float:
    """Ours to theirs, pair by pair, so that a machine that slows down between pairs slows both."""
    return median(ours.wall_seconds / bare.wall_seconds for bare, ours in pairs)


def send(place: Place) -> Iterator[Figure]:
    """Sending what `collect` recorded, against posting the same bodies with nothing around."""
    pairs = []
    for number in range(place.runs):
        ours = place.run("bench.ours:send", _collected(place, number))
        pairs.append((place.run("bench.bare:post", place.ledger(f"{number}")), ours))
    for bare, ours in pairs:
        require("meter events posted", bare.counts["meter_events"], ours.counts["meter_events"])
    group = (
        f"Send {pairs[0][1].counts['meter_events']:,} meter events (median of {place.runs} alternating runs, 8 threads)"
    )
    rate, bare_rate = median(_rate(ours) for _, ours in pairs), median(_rate(bare) for bare, _ in pairs)
    yield Figure(group, "bare posts", bare_rate, "/s", key="send.bare")
    yield Figure(
        group,
        "send, with the official SDK",
        rate,
        "/s",
        METER_EVENTS_PER_SECOND_MIN,
        at_least=True,
        key="send.rate",
    )
    yield Figure(group, "send / bare posts, time", _ratio(pairs), "×", key="send.ratio")


def _collected(place: Place, number: int) -> Path:
    """The ledger of one run of `collect`, made now if that was not measured."""
    ledger = place.ledger(f"{number}")
    if not ledger.exists():
        place.run("bench.ours:collect", ledger)
    return ledger


def _rate(measured: Measured) -> float:
    rate: float = measured.counts["meter_events"] / measured.wall_seconds
    return rate


def sync(place: Place) -> Iterator[Figure]:
    """The whole first sync: collect, send, mark; then a second one, with nothing new.

    Raises WrongResultError if the first billed anything but what it should.
    """
    measured = place.run("bench.ours:sync", place.ledger("sync"))
    counts = measured.counts
    expected = place.workload.expected(place.traces, place.sandbox.ready.now_us)
    require("traces processed", counts["processed"], expected.processed)
    require("micro-credits", counts["credits_micros"], expected.amount_micros)
    yield from _first_sync(place, measured, expected)
    group = f"Where the first sync of {place.title} spends its time"
    yield from shares(group, counts["profile"], f"profile.sync.{place.workload.key}")
    yield from _second_sync(place)


def _first_sync(place: Place, measured: Measured, expected: Expected) -> Iterator[Figure]:
    counts = measured.counts
    group, key = f"First sync of {place.title}", f"sync.{place.workload.key}"
    requests_max = place.at_size(place.workload.sync_requests_max)
    acknowledged_max = place.at_size(ACKNOWLEDGED_SECONDS_MAX)
    yield Figure(group, "seconds, marks included", measured.wall_seconds, "s", key=f"{key}.seconds")
    yield Figure(
        group,
        "seconds until Stripe has acknowledged the last meter event",
        counts["acknowledged_seconds"],
        "s",
        acknowledged_max,
        key=f"{key}.acknowledged",
    )
    yield Figure(group, "CPU seconds", measured.cpu_seconds, "s")
    yield Figure(group, "traces", place.traces / measured.wall_seconds, "/s", key=f"{key}.rate")
    yield Figure(group, "peak memory", measured.peak_megabytes, "MB", PEAK_MEGABYTES_MAX, key=f"{key}.peak")
    yield Figure(
        group, "requests to Langfuse, marks included", counts["requests"], "", requests_max, key=f"{key}.requests"
    )
    yield Figure(group, "meter events (target: customers × hours touched)", counts["meter_events"], "", expected.lanes)
    if place.workload.generation == "legacy":
        yield Figure(group, "requests to Langfuse for a single trace", _single_trace_requests(place), "", 0)


def _single_trace_requests(place: Place) -> int:
    return place.sandbox.counts("langfuse").get("GET /api/public/traces/{traceId}", 0)


def _second_sync(place: Place) -> Iterator[Figure]:
    """A sync with nothing new: it reads the overlap and sends nothing."""
    measured = place.run("bench.ours:sync", place.ledger("sync"))
    overlap_pages = -(-measured.counts["fetched"] * place.workload.rows_per_trace // place.workload.page_rows)
    group, key = f"Idle sync after {place.title}", f"idle.{place.workload.key}"
    requests_max = overlap_pages + SECOND_SYNC_EXTRA_REQUESTS_MAX
    yield Figure(group, "seconds", measured.wall_seconds, "s", key=f"{key}.seconds")
    yield Figure(group, "pages of the overlap", overlap_pages)
    yield Figure(group, "requests to Langfuse", measured.counts["requests"], "", requests_max, key=f"{key}.requests")
    yield Figure(group, "meter events", measured.counts["meter_events"], "", 0)
    yield Figure(group, "marks", measured.counts["marks"], "", 0)


def mark(place: Place) -> Iterator[Figure]:
    """Writing the marks of what was sent."""
    ledger = _collected(place, 0)
    place.run("bench.ours:send", ledger)
    measured = place.run("bench.ours:mark", ledger)
    marks = measured.counts["marks"]
    group, key = f"Mark {marks:,} traces, {place.workload.name}", f"mark.{place.workload.key}"
    yield Figure(group, "milliseconds per 1,000", 1e6 * measured.wall_seconds / max(marks, 1), "ms", key=key)
    yield Figure(group, "requests to Langfuse", measured.counts["requests"])


def classic(place: Place, known: Mapping[str, Figure]) -> Iterator[Figure]:
    """The script that users come from (bench/classic.py), and a sync of as many traces, in milliseconds a trace.

    Needs a place of its own, since a sync marks traces. `known` are figures by key: the first sync of many traces, with
    which the script is compared too, for the same work a trace, however many there are.
    """
    script = place.run("bench.classic:bill", place.ledger("none"), BENCH_CLASSIC_TRACES=str(place.traces))
    paused_traces = min(CLASSIC_TRACES_WITH_PAUSES, place.traces)
    slow = place.run("bench.classic:bill_with_pauses", place.ledger("none"), BENCH_CLASSIC_TRACES=str(paused_traces))
    without, paused = script.wall_seconds / place.traces, slow.wall_seconds / paused_traces
    ours = place.run("bench.ours:sync", place.ledger("classic"))
    group = f"The script that users come from, {place.traces:,} traces ({paused_traces:,} with its pauses)"
    yield Figure(group, "the script, a trace", 1000 * without, "ms", key="classic.script")
    yield Figure(group, "the script with its pauses, a trace", 1000 * paused, "ms", key="classic.pauses")
    yield Figure(group, "tallymark, a trace, marks included", 1000 * ours.wall_seconds / place.traces, "ms")
    requests = ours.counts["requests"] + ours.counts["stripe_requests"]
    yield Figure(group, "requests of the script", script.counts["requests"])
    yield Figure(group, "requests of tallymark, marks included", requests)
    if synced := known.get("sync.traces.rate"):
        group = f"The script, extrapolated by trace, against the first sync that was measured ({synced.text})"
        yield Figure(group, "the script / tallymark, time", without * synced.value, "×", key="classic.ratio")
        yield Figure(
            group,
            "the script with its pauses / tallymark, time",
            paused * synced.value,
            "×",
            key="classic.pauses_ratio",
        )


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
    extra = median(
        1000 * (version - bare)
        for bare, version in zip(taken["python -c pass"], taken["tallymark --version"], strict=True)
    )
    limit = VERSION_EXTRA_MILLISECONDS_MAX
    yield Figure(group, "tallymark --version, more than python", extra, "ms", limit, key="start.version")


def _seconds_of(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
