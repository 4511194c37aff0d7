"""The memory of a first sync while it reads, with ten and a hundred times the traces: it should not grow.

The largest only collects: sending and marking go by batches of the ledger, and would take another hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from .child import Measured, require
from .figures import Figure
from .generated import Options
from .growth import opened
from .measures import PEAK_MEGABYTES_MAX

OBSERVATIONS_PER_TRACE = 5
POINTS_MAX = 100
MARKED_TRACES_MAX = 1_000_000


def measure(traces: Sequence[int], of_observations: Sequence[int]) -> Iterator[Figure]:
    """Syncs of so many traces, through the trace list and through observations."""
    yield from _of(Options(traces=0), "the trace list", traces)
    options = Options(traces=0, observations_per_trace=OBSERVATIONS_PER_TRACE, generation="events_only")
    yield from _of(options, f"observations, {OBSERVATIONS_PER_TRACE} a trace", of_observations)


def _of(options: Options, what: str, sizes: Sequence[int]) -> Iterator[Figure]:
    key = "traces" if options.generation == "legacy" else "observations"
    for traces in sizes:
        with opened(msgspec.structs.replace(options, traces=traces)) as station:
            whole = traces <= MARKED_TRACES_MAX
            measured = station.run("bench.ours:sync" if whole else "bench.ours:collect")
        require("traces processed", measured.counts["processed"], traces)
        yield from figures(f"memory.{key}.{traces}", what, traces, measured)


def figures(key: str, what: str, traces: int, measured: Measured) -> Iterator[Figure]:
    """The figures of one sync; the curve is the memory while it reads, by traces."""
    group = f"Memory of a first sync of {traces:,} traces through {what}"
    timeline = measured.counts["timeline"]
    reading = [(done, megabytes) for stage, done, megabytes, _ in timeline if stage == "read"]
    rows = max((done for done, _ in reading), default=1)
    points = tuple((done * traces / rows, megabytes) for done, megabytes in reading)
    # Every so many, counted from the end, which is among them.
    thinned = points[:: -(len(points) // POINTS_MAX + 1)][::-1]
    peak = measured.peak_megabytes
    yield Figure(group, "peak of the sync process", peak, "MB", PEAK_MEGABYTES_MAX, key=key, points=thinned)
    if (apart := max(point[3] for point in timeline)) > 0:
        yield Figure(group, "most of the process that reads for it", apart, "MB", key=f"{key}.reading")
    done = "sent and marked" if traces <= MARKED_TRACES_MAX else "recorded, not sent"
    yield Figure(group, f"seconds, {done}", measured.wall_seconds, "s")
