"""Collect through the observations generation: stage a window's observations, then decide the traces they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..ledger import Ledger
from ..ledger.ledger import Coverage
from ..ledger.rows import RunRef
from ..ledger.staging import decide_staged, put_score_marks, stage
from ..remote.langfuse import LangfuseClient
from ..source.observations import ObservationPage, ObservationsSource, WindowEnd, group
from ..source.scores import marked_traces
from ..source.windows import Windows
from .collect import held_stale, remember_projects
from .read_ahead import ahead, batches
from .reading import Range, Recording

STAGE_PAGES = 8
DECIDE_TRACES = 1000


def collect_observations(source: ObservationsSource, into: Recording, span: Range, coverage: Coverage | None) -> None:
    """Read a range window by window, the oldest first; what a window said is decided before the next is read."""
    settled = source.windows(span.from_us, min(span.to_us, span.settled_us))
    for end_us in _decided_up_to(source, settled, into):
        if coverage is not None:
            remember_projects(into.ledger, coverage.source_key, into.collected.project_ids)
            into.ledger.put_coverage(replace(coverage, to_us=max(coverage.from_us, min(end_us, coverage.to_us))))
    # Hardly any trace lies in the future, so one window asks for all of it.
    ahead = Windows(span.future_us, span.to_us, max(span.to_us - span.future_us, 1))
    for _ in _decided_up_to(source, ahead, into):
        pass


def _decided_up_to(source: ObservationsSource, windows: Windows, into: Recording) -> Iterator[int]:
    """Read windows and decide what they said; the end of each, once it is decided. The next one is read meanwhile.

    One that is too much for the server is read again in smaller ones: what was staged of it stays, and is decided with
    the first of them.
    """
    unreadable: list[str] = []
    for window_end, pages in _by_window(ahead(source.read(windows), STAGE_PAGES)):
        stage_batch(pages, into)
        unreadable += [problem for page in pages for problem in page.unreadable]
        if window_end is None:
            continue
        if window_end.end_us is not None:
            into.collected.unreadable += unreadable
            decide_all(source, into)
            yield window_end.end_us
        unreadable = []


def _by_window(
    items: Iterator[ObservationPage | WindowEnd],
) -> Iterator[tuple[WindowEnd | None, list[ObservationPage]]]:
    """Pages in batches that end where their window ends."""
    for batch in batches(items, STAGE_PAGES, last=WindowEnd):
        pages = [item for item in batch if isinstance(item, ObservationPage)]
        yield batch[-1] if isinstance(batch[-1], WindowEnd) else None, pages


def collect_traces(source: ObservationsSource, into: Recording, trace_ids: list[str]) -> None:
    """Read all observations of some traces, and decide them."""
    stage_pages(source.read_traces(trace_ids), into)
    decide_all(source, into)


def revisit_held_observations(source: ObservationsSource, into: Recording, project_id: str) -> None:
    """Read held traces again that were decided under other settings, such as before a customer was mapped."""
    for ids in held_stale(into.ledger, into.run, project_id):
        collect_traces(source, into, ids)


def stage_pages(pages: Iterator[ObservationPage], into: Recording) -> None:
    """Store all observations of some traces as their pages come, a few in one transaction."""
    for batch in batches(ahead(pages, STAGE_PAGES), STAGE_PAGES):
        stage_batch(batch, into.quietly(), complete=True)
        into.collected.unreadable += [problem for page in batch for problem in page.unreadable]


def stage_batch(pages: Sequence[ObservationPage], into: Recording, *, complete: bool = False) -> None:
    """Store a few pages in one transaction. `complete`: they hold all observations of their traces."""
    collected = into.collected
    readings = group(reading for page in pages for reading in page.readings)
    stage(into.ledger, into.run, readings, complete=complete)
    collected.rows += sum(page.rows for page in pages)
    collected.project_ids.update(reading.project_id for reading in readings)
    into.progress("read", collected.rows, None)


def decide_all(source: ObservationsSource, into: Recording) -> None:
    """Decide what is staged. A trace that was billed as a whole, and looks different in part, is read in full first."""
    for project_id in sorted(into.collected.project_ids):
        for incomplete in _decide_project(into, project_id):
            stage_pages(source.read_traces(incomplete), into)
        for _ in _decide_project(into, project_id):
            pass


def _decide_project(into: Recording, project_id: str) -> Iterator[list[str]]:
    after = ""
    while batch := decide_staged(into.ledger, into.run, project_id, after, into.decider, DECIDE_TRACES):
        after = batch.last_trace_id
        into.collected.count(batch.decisions)
        if batch.incomplete:
            yield batch.incomplete


def adopt_scores(client: LangfuseClient, ledger: Ledger, run: RunRef, from_us: int) -> set[str]:
    """Note which traces are marked by score on the server, so that none is billed again. The projects they are of."""
    project_ids: set[str] = set()
    for keys in marked_traces(client, from_us):
        put_score_marks(ledger, run, keys)
        project_ids.update(project_id for project_id, _ in keys)
    return project_ids
