"""Run every measurement, print the table, and keep the figures in `bench/results/latest.json`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tallymark.sandbox.process import Options
from tallymark.sandbox.process import start as start_sandbox

from . import machine, measures
from .child import Measured
from .figures import Figure, as_json, table
from .measures import Place

TRACES = 40_000
GROWTH = 10
RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--traces", type=int, default=TRACES, help="how many traces the sandbox holds")
    parser.add_argument("--full", action="store_true", help="also sync ten times as many: minutes, and 2 GB of memory")
    arguments = parser.parse_args()
    about = machine.describe()
    print(", ".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    figures = list(_shown(_measure(arguments.traces, full=arguments.full)))
    _keep({"machine": about, "traces": arguments.traces, "figures": as_json(figures)})
    missed = [figure for figure in figures if figure.met is False]
    print(f"\n{len(missed)} of {sum(figure.met is not None for figure in figures)} targets not met")


def _measure(traces: int, *, full: bool) -> Iterator[list[Figure]]:
    with _place(traces) as place:
        # Before any sync: its marks would change what collecting finds.
        yield list(measures.collect(place))
        yield list(measures.send(place))
        figures, small = measures.first_sync(place)
        yield figures
        yield list(measures.second_sync(place))
    if full:
        yield _full(traces * GROWTH, small)
    yield list(measures.start())


def _full(traces: int, small: Measured) -> list[Figure]:
    with _place(traces) as place:
        figures, large = measures.first_sync(place)
        return [*figures, measures.growth(small, large), *measures.second_sync(place)]


@contextmanager
def _place(traces: int) -> Iterator[Place]:
    with (
        tempfile.TemporaryDirectory(prefix="tallymark-bench-") as folder,
        start_sandbox(Options(story=traces)) as sandbox,
    ):
        yield Place(sandbox, traces, Path(folder))


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
