"""Run every measurement, print the table, and keep the figures in `bench/results/latest.json`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tallymark.sandbox.process import start as start_sandbox

from . import instrument, machine, measures, pages
from .child import Measured
from .figures import Figure, as_json, table
from .measures import Place
from .workloads import OBSERVATIONS, TARGETS_AT_TRACES, TRACES, Workload

GROWTH = 10
RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--traces", type=int, default=TARGETS_AT_TRACES, help="how many traces the sandbox holds")
    parser.add_argument("--full", action="store_true", help="also sync ten times as many: minutes, and 8 GB of memory")
    arguments = parser.parse_args()
    about = machine.describe()
    print(", ".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    figures = list(_shown(_measure(arguments.traces, full=arguments.full)))
    _keep({"machine": about, "traces": arguments.traces, "figures": as_json(figures)})
    missed = [figure for figure in figures if figure.met is False]
    print(f"\n{len(missed)} of {sum(figure.met is not None for figure in figures)} targets not met")


def _measure(traces: int, *, full: bool) -> Iterator[list[Figure]]:
    for workload in (TRACES, OBSERVATIONS):
        yield from _measure_workload(workload, traces, full=full)
    yield _pages()
    yield list(measures.start())
    yield list(instrument.measure())


def _measure_workload(workload: Workload, traces: int, *, full: bool) -> Iterator[list[Figure]]:
    with _place(workload, traces) as place:
        # Before any sync: its marks would change what collecting finds.
        yield list(measures.collect(place))
        # What is sent does not depend on how it was read.
        if workload is TRACES:
            yield list(measures.send(place))
        figures, small = measures.first_sync(place)
        yield figures
        yield list(measures.second_sync(place))
    if full:
        yield _full(workload, traces * GROWTH, small)


def _full(workload: Workload, traces: int, small: Measured) -> list[Figure]:
    with _place(workload, traces) as place:
        figures, large = measures.first_sync(place)
        return [*figures, measures.growth(place, small, large), *measures.second_sync(place)]


def _pages() -> list[Figure]:
    with _place(pages.WORKLOAD, pages.TRACES) as place:
        place.run("bench.ours:sync", place.ledger("pages"))
        return list(pages.measure(place.environment(place.ledger("pages"))))


@contextmanager
def _place(workload: Workload, traces: int) -> Iterator[Place]:
    with (
        tempfile.TemporaryDirectory(prefix="tallymark-bench-") as folder,
        start_sandbox(workload.options(traces)) as sandbox,
    ):
        yield Place(sandbox, workload, traces, Path(folder))


def _shown(groups: Iterable[list[Figure]]) -> Iterator[Figure]:
    """Print each group as soon as it is measured."""
    for figures in groups:
        print(table(figures), flush=True)
        yield from figures


def _keep(content: dict[str, object]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
