"""What is measured, by name, and what the measurements share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tallymark.sandbox.process import start as start_sandbox

from . import costs, growth, instrument, measures, memory, pages
from .figures import Figure
from .measures import CLASSIC_TRACES, Place
from .workloads import OBSERVATIONS, SCRIPTED, TARGETS_AT_TRACES, TRACES, Workload


class Bench:
    """What measurements share: how much is to be measured, and places with a sandbox, each started when first used."""

    def __init__(self, traces: int, *, full: bool) -> None:
        """`full`: pages with 100,000 traces."""
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

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
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


def _memory(bench: Bench) -> Iterator[Figure]:
    yield from memory.measure([bench.traces], [bench.traces])


def _memory_of_millions(bench: Bench) -> Iterator[Figure]:
    yield from memory.measure([10 * bench.traces, 100 * bench.traces], [10 * bench.traces])


def _pages(bench: Bench) -> Iterator[Figure]:
    """On the ledger of a first sync through observations, so that models are known."""
    place = bench.place(OBSERVATIONS, pages.TRACES if bench.full else bench.traces)
    if not place.ledger("sync").exists():
        place.run("bench.ours:sync", place.ledger("sync"))
    yield from pages.measure(place.environment(place.ledger("sync")), place.traces)


# In this order: a sync marks traces, which changes what is collected after it.
MEASURES: dict[str, Measure] = {
    "collect": _of_both(measures.collect),
    # What is sent does not depend on how it was read.
    "send": lambda bench: measures.send(bench.place(TRACES)),
    "sync": _of_both(measures.sync),
    "mark": _of_both(measures.mark),
    "costs": lambda bench: costs.measure(min(costs.TRACES, bench.traces)),
    "classic": _classic,
    "memory": _memory,
    "millions": _memory_of_millions,
    "growth": lambda bench: growth.measure(min(1.0, bench.traces / TARGETS_AT_TRACES)),
    "pages": _pages,
    "start": lambda _: measures.start(),
    "instrument": lambda _: instrument.measure(),
}
# What takes an hour is measured when it is named, or with `--full`.
LONG = {"millions"}
