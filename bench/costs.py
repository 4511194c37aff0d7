"""What a trace and an observation cost apart from any server: decoding, rating, recording, from pages in memory.

The pages are made once (`generated.Index`), the ledger is a file. The jobs run the flows that a sync runs, over a
source that hands out what lies in memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

from tallymark import config
from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US
from tallymark.core.readings import trace_of
from tallymark.core.types import Trace
from tallymark.flows.collect import collect
from tallymark.flows.observe import collect_observations
from tallymark.flows.reading import Range, Recording, range_of
from tallymark.flows.stations import Stations, open_stations
from tallymark.flows.sync import decider_of, start_run
from tallymark.ledger.rows import RunRef
from tallymark.source import observations as observations_source
from tallymark.source import rows as trace_rows
from tallymark.source.observations import ObservationPage, ObservationsSource, WindowEnd
from tallymark.source.rows import Page
from tallymark.source.traces import IdStream, TracesSource
from tallymark.source.windows import Windows

from .child import Counts, require, run
from .figures import Figure
from .generated import Index, Options

RUNS = 3
TRACES = 10_000
OBSERVATIONS_PER_TRACE = 5
OBSERVATIONS_PER_SECOND_MIN = 25_000
FAR_US = 4_000_000_000_000_000
HISTORY_US = 31 * DAY_US
KINDS = (
    ("parse_traces", "rate_traces", "collect_traces"),
    ("parse_observations", "rate_observations", "collect_staged"),
)
# Decoding is measured over the same pages again and again: with their prompts, all of them would fill the memory.
DISTINCT_PAGES = 20
# No server is asked: these lead nowhere.
NOWHERE = {
    "LANGFUSE_BASE_URL": "http://127.0.0.1:9",
    "LANGFUSE_PUBLIC_KEY": "pk-bench",
    "LANGFUSE_SECRET_KEY": "sk-bench",
    "BILLING_STRIPE_SECRET_KEY": "sk_test_bench",
}


# --- the jobs


def parse_traces() -> Callable[[], Counts]:
    """Decode as many pages of the trace list as hold all traces."""
    index, traces = _index(), _traces()
    bodies = [index.trace_page(0, FAR_US, number, 100) for number in range(1, DISTINCT_PAGES + 1)]
    return lambda: {"rows": _parse(bodies, traces, trace_rows.decode_page)}


def parse_observations() -> Callable[[], Counts]:
    """Decode as many pages of observations as hold those of all traces."""
    index, rows = _index(), _traces() * OBSERVATIONS_PER_TRACE
    bodies = [index.observation_page(0, FAR_US, number * 1000, 1000) for number in range(DISTINCT_PAGES)]
    return lambda: {"rows": _parse(bodies, rows, observations_source.decode_page)}


def _parse(bodies: Sequence[bytes], rows: int, decode: Callable[[bytes], Page | ObservationPage]) -> int:
    read = 0
    while read < rows:
        for body in bodies:
            read += decode(body).rows
    return read


def rate_traces() -> Callable[[], Counts]:
    """Decide every trace of the list: whose it is, what it is worth, which entries that makes. Nothing is stored."""
    return _rating([trace for page in _trace_pages() for trace in page.traces])


def rate_observations() -> Callable[[], Counts]:
    """The same for traces that are made of observations."""
    readings = observations_source.group(r for _, pages in _windows() for page in pages for r in page.readings)
    return _rating([trace_of(reading, reading.units) for reading in readings])


def _rating(traces: list[Trace]) -> Callable[[], Counts]:
    def decide_all() -> Counts:
        with _stations() as stations:
            decide = decider_of(stations, _run(stations), False, "tags")
            return {"traces": sum(bool(decide(trace, None).entries) for trace in traces)}

    return decide_all


def collect_traces() -> Callable[[], Counts]:
    """Rate and record what the trace list says, through the flow."""
    source = TracesInMemory(list(_trace_pages()))

    def work() -> Counts:
        with _stations() as stations:
            into = _into(stations, "tags")
            collect(source, into, _everything(stations, into.run), None)
            return _counts(into)

    return work


def collect_staged() -> Callable[[], Counts]:
    """Stage, rate and record what observations say, through the flow."""
    source = ObservationsInMemory(list(_windows()))

    def work() -> Counts:
        with _stations() as stations:
            into = _into(stations, "score")
            collect_observations(source, into, _everything(stations, into.run), None)
            return _counts(into)

    return work


def _into(stations: Stations, style: str) -> Recording:
    run = _run(stations)
    return Recording(stations.ledger, decider_of(stations, run, False, style), run)


def _counts(into: Recording) -> Counts:
    return {"traces": into.collected.results["processed"], "rows": into.collected.rows}


class TracesInMemory(TracesSource):
    """A trace list that was read already; it knows no score and no trace without a cost."""

    def __init__(self, pages: list[Page]) -> None:
        """Keep the pages."""
        self._pages = pages

    def read(
        self, from_us: int, to_us: int, only_pending: bool = False, horizon_us: int | None = None
    ) -> Iterator[Page]:
        """All pages."""
        return iter(self._pages)

    def scored(self, *_: object, **__: object) -> IdStream:
        """No trace."""
        return IdStream(iter(()))

    def unpriced(self, traces: Sequence[Trace]) -> set[str]:
        """No trace."""
        return set()


class ObservationsInMemory(ObservationsSource):
    """Observations that were read already, window by window."""

    def __init__(self, read: list[tuple[int, list[ObservationPage]]]) -> None:
        """Keep the pages of each window, with its end."""
        self._read = read

    def windows(self, from_us: int, to_us: int) -> Windows:
        """Any: what is asked for first is answered with everything."""
        return Windows(from_us, to_us, to_us - from_us)

    def read(self, windows: Windows) -> Iterator[ObservationPage | WindowEnd]:
        """All pages of all windows, once."""
        read, self._read = self._read, []
        for end_us, pages in read:
            yield from pages
            yield WindowEnd(end_us)


def _trace_pages() -> Iterator[Page]:
    index = _index()
    for number in range(1, _traces() // 100 + 1):
        yield trace_rows.decode_page(index.trace_page(0, FAR_US, number, 100))


def _windows() -> Iterator[tuple[int, list[ObservationPage]]]:
    index = _index()
    for start_us, end_us in Windows(index.now_us - HISTORY_US, index.now_us, observations_source.WINDOW_US):
        yield end_us, list(_observation_pages(index, start_us, end_us))


def _observation_pages(index: Index, start_us: int, end_us: int) -> Iterator[ObservationPage]:
    cursor: str | None = "0"
    while cursor is not None:
        page = observations_source.decode_page(index.observation_page(start_us, end_us, int(cursor), 1000))
        yield page
        cursor = page.cursor


def _traces() -> int:
    return int(os.environ["BENCH_TRACES"])


def _index() -> Index:
    options = Options(traces=_traces(), observations_per_trace=OBSERVATIONS_PER_TRACE)
    return Index(options, int(os.environ["BENCH_NOW_US"]))


def _stations() -> AbstractContextManager[Stations]:
    return open_stations(config.load(None, os.environ), dry_run=False)


def _run(stations: Stations) -> RunRef:
    return start_run(stations, "sync")


def _everything(stations: Stations, run: RunRef) -> Range:
    return range_of(0, None, run.now_us, stations.config.settle_us)


# --- the figures


def measure(traces: int) -> Iterator[Figure]:
    """Microseconds for each, and how many observations a second that makes."""
    with tempfile.TemporaryDirectory(prefix="tallymark-bench-") as folder:
        yield from _figures("the trace list", traces, 1, _medians(KINDS[0], traces, Path(folder)), None)
        found = _medians(KINDS[1], traces, Path(folder))
        yield from _figures("observations", traces, OBSERVATIONS_PER_TRACE, found, OBSERVATIONS_PER_SECOND_MIN)


def _medians(jobs: Sequence[str], traces: int, folder: Path) -> list[float]:
    """Seconds of each job."""
    return [median(_seconds(job, traces, folder / f"{job}-{number}.sqlite3") for number in range(RUNS)) for job in jobs]


def _seconds(job: str, traces: int, ledger: Path) -> float:
    settings = {
        **NOWHERE,
        "BILLING_LEDGER_URL": f"sqlite:///{ledger.as_posix()}",
        "BENCH_TRACES": str(traces),
        "BENCH_NOW_US": str(SystemClock().now_us()),
    }
    measured = run(f"bench.costs:{job}", settings)
    # Whole pages are decoded, which may be a few rows more.
    if (done := measured.counts.get("traces")) is not None:
        require(f"traces billed by {job}", done, traces)
    return measured.wall_seconds


def _figures(
    what: str, traces: int, rows_per_trace: int, seconds: Sequence[float], rate_min: int | None
) -> Iterator[Figure]:
    rows, (parsing, rating, collecting) = traces * rows_per_trace, seconds
    group = f"From memory, {traces:,} traces in {rows:,} rows of {what} (median of {RUNS} fresh processes)"
    key = f"costs.{'traces' if rows_per_trace == 1 else 'observations'}"
    yield Figure(group, "decode a row", 1e6 * parsing / rows, "µs", key=f"{key}.decode")
    yield Figure(group, "rate a trace", 1e6 * rating / traces, "µs", key=f"{key}.rate")
    yield Figure(group, "record a trace (the rest of collecting it)", 1e6 * (collecting - rating) / traces, "µs")
    yield Figure(group, "rate and record a trace", 1e6 * collecting / traces, "µs", key=f"{key}.collect")
    yield Figure(group, "rows rated and recorded", rows / collecting, "/s", rate_min, at_least=True, key=f"{key}.rows")
