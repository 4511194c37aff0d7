"""Run every measurement, print the table, and keep the figures in `bench/results/latest.json`."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tallymark.sandbox.process import start as start_sandbox

from . import costs, instrument, machine, measures, pages
from .figures import Figure, as_json, table
from .measures import CLASSIC_TRACES, Place
from .workloads import OBSERVATIONS, SCRIPTED, TARGETS_AT_TRACES, TRACES, Workload

RESULTS = Path(__file__).parent / "results" / "latest.json"


class Bench:
    """What measurements share: how much is to be measured, and places with a sandbox, each started when first used."""

    def __init__(self, traces: int, *, full: bool) -> None:
        """`full`: also what takes an hour."""
        self.traces, self.full = traces, full
        self.known: dict[str, Figure] = {}
        """Figures that were measured in this run, by key."""
        self._opened = ExitStack()
        self._places: dict[tuple[str, int], Place] = {}

    def place(self, workload: Workload, traces: int | None = None) -> Place:
        """The place with so many traces of a workload."""
        wanted = workload.key, traces or self.traces
        if wanted not in self._places:
            folder = self._opened.enter_context(tempfile.TemporaryDirectory(prefix="tallymark-bench-"))
            sandbox = self._opened.enter_context(start_sandbox(workload.options(wanted[1])))
            self._places[wanted] = Place(sandbox, workload, wanted[1], Path(folder))
        return self._places[wanted]

    def close(self) -> None:
        """Stop the sandboxes and remove the ledgers."""
        self._opened.close()


Measure = Callable[[Bench], Iterator[Figure]]


def _of_both(measure: Callable[[Place], Iterator[Figure]]) -> Measure:
    """A measure of a place, for both generations of Langfuse."""

    def both(bench: Bench) -> Iterator[Figure]:
        for workload in (TRACES, OBSERVATIONS):
            yield from measure(bench.place(workload))

    return both


def _classic(bench: Bench) -> Iterator[Figure]:
    yield from measures.classic(bench.place(SCRIPTED, min(CLASSIC_TRACES, bench.traces)), bench.known)


def _pages(bench: Bench) -> Iterator[Figure]:
    place = bench.place(pages.WORKLOAD, pages.TRACES)
    place.run("bench.ours:sync", place.ledger("pages"))
    yield from pages.measure(place.environment(place.ledger("pages")))


# In this order: a sync marks traces, which changes what is collected after it.
MEASURES: dict[str, Measure] = {
    "collect": _of_both(measures.collect),
    # What is sent does not depend on how it was read.
    "send": lambda bench: measures.send(bench.place(TRACES)),
    "sync": _of_both(measures.sync),
    "mark": _of_both(measures.mark),
    "costs": lambda bench: costs.measure(bench.traces),
    "classic": _classic,
    "pages": _pages,
    "start": lambda _: measures.start(),
    "instrument": lambda _: instrument.measure(),
}


def main() -> None:
    """Measure, print, keep."""
    arguments = _arguments()
    about = machine.describe()
    print(", ".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    bench = Bench(arguments.traces, full=arguments.full)
    try:
        kept = {name: _measured(name, bench) for name in MEASURES if name in (arguments.only or MEASURES)}
    finally:
        bench.close()
    _keep(arguments.output, about, kept)
    figures = [figure for one in kept.values() for figure in one["figures"]]
    judged = [figure["met"] for figure in figures if figure["met"] is not None]
    print(f"\n{judged.count(False)} of {len(judged)} targets not met")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--traces", type=int, default=TARGETS_AT_TRACES, help="how many traces the sandbox holds")
    parser.add_argument("--only", action="append", choices=MEASURES, help="measure only this; may be given again")
    parser.add_argument("--full", action="store_true", help="also what takes an hour: millions of traces")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the file that keeps the figures")
    return parser.parse_args()


def _measured(name: str, bench: Bench) -> dict[str, Any]:
    """Measure one thing, print each figure as soon as it is known, and return what is kept."""
    kept = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0], "traces": bench.traces}
    figures: list[Figure] = []
    for figure in MEASURES[name](bench):
        print(table([figure], under=figures[-1].group if figures else ""), flush=True)
        figures.append(figure)
        bench.known[figure.key] = figure
    return {**kept, "figures": as_json(figures)}


def _keep(path: Path, about: dict[str, str], kept: dict[str, Any]) -> None:
    """Put what was measured beside what is known of this machine already."""
    before = json.loads(path.read_text()) if path.exists() else {}
    others = before.get("measures", {}) if before.get("machine") == about else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": about, "measures": {**others, **kept}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
