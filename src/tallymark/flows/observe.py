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
from .collect import Collected, Range, held_stale, remember_projects
from .decide import Decider
from .progress import Progress, quiet
from .read_ahead import ahead, batches

STAGE_PAGES = 8
DECIDE_TRACES = 1000


def collect_observations(
    source: ObservationsSource,
    ledger: Ledger,
    decider: Decider,
    run: RunRef,
    span: Range,
    coverage: Coverage | None,
    progress: Progress,
    collected: Collected,
) -> None:
    """Read a range window by window, the oldest first; what a window said is decided before the next is read."""
    settled = source.windows(span.from_us, min(span.to_us, span.settled_us))
    for end_us in _decided_up_to(source, settled, ledger, decider, run, progress, collected):
        if coverage is not None:
            remember_projects(ledger, coverage.source_key, collected.project_ids)
            ledger.put_coverage(replace(coverage, to_us=max(coverage.from_us, min(end_us, coverage.to_us))))
    # Hardly any trace lies in the future, so one window asks for all of it.
    ahead = Windows(span.future_us, span.to_us, max(span.to_us - span.future_us, 1))
    for _ in _decided_up_to(source, ahead, ledger, decider, run, progress, collected):
        pass


def _decided_up_to(
    source: ObservationsSource,
    windows: Windows,
    ledger: Ledger,
    decider: Decider,
    run: RunRef,
    progress: Progress,
    collected: Collected,
) -> Iterator[int]:
    """Read windows and decide what they said; the end of each, once it is decided. The next one is read meanwhile.

    One that is too much for the server is read again in smaller ones: what was staged of it stays, and is decided with
    the first of them.
    """
    unreadable: list[str] = []
    for window_end, pages in _by_window(ahead(source.read(windows), STAGE_PAGES)):
        stage_batch(pages, ledger, run, collected, progress)
        unreadable += [problem for page in pages for problem in page.unreadable]
        if window_end is None:
            continue
        if window_end.end_us is not None:
            collected.unreadable += unreadable
            decide_all(source, ledger, decider, run, collected)
            yield window_end.end_us
        unreadable = []


def _by_window(
    items: Iterator[ObservationPage | WindowEnd],
) -> Iterator[tuple[WindowEnd | None, list[ObservationPage]]]:
    """Pages in batches that end where their window ends."""
    for batch in batches(items, STAGE_PAGES, last=WindowEnd):
        pages = [item for item in batch if isinstance(item, ObservationPage)]
        yield batch[-1] if isinstance(batch[-1], WindowEnd) else None, pages


def collect_traces(
    source: ObservationsSource,
    ledger: Ledger,
    decider: Decider,
    run: RunRef,
    trace_ids: list[str],
    collected: Collected,
) -> None:
    """Read all observations of some traces, and decide them."""
    stage_pages(source.read_traces(trace_ids), ledger, run, collected, quiet, complete=True)
    decide_all(source, ledger, decider, run, collected)


def revisit_held_observations(
    source: ObservationsSource, ledger: Ledger, decider: Decider, run: RunRef, project_id: str, collected: Collected
) -> None:
    """Read held traces again that were decided under other settings, such as before a customer was mapped."""
    for ids in held_stale(ledger, run, project_id):
        collect_traces(source, ledger, decider, run, ids, collected)


def stage_pages(
    pages: Iterator[ObservationPage],
    ledger: Ledger,
    run: RunRef,
    collected: Collected,
    progress: Progress,
    *,
    complete: bool = False,
) -> None:
    """Store pages as they come, a few in one transaction."""
    for batch in batches(ahead(pages, STAGE_PAGES), STAGE_PAGES):
        stage_batch(batch, ledger, run, collected, progress, complete=complete)
        collected.unreadable += [problem for page in batch for problem in page.unreadable]


def stage_batch(
    pages: Sequence[ObservationPage],
    ledger: Ledger,
    run: RunRef,
    collected: Collected,
    progress: Progress,
    *,
    complete: bool = False,
) -> None:
    """Store a few pages in one transaction."""
    readings = group(reading for page in pages for reading in page.readings)
    stage(ledger, run, readings, complete=complete)
    collected.rows += sum(page.rows for page in pages)
    collected.project_ids.update(reading.project_id for reading in readings)
    progress("read", collected.rows, None)


def decide_all(source: ObservationsSource, ledger: Ledger, decider: Decider, run: RunRef, collected: Collected) -> None:
    """Decide what is staged. A trace that was billed as a whole, and looks different in part, is read in full first."""
    for project_id in sorted(collected.project_ids):
        for incomplete in _decide_project(ledger, decider, run, project_id, collected):
            stage_pages(source.read_traces(incomplete), ledger, run, collected, quiet, complete=True)
        for _ in _decide_project(ledger, decider, run, project_id, collected):
            pass


def _decide_project(
    ledger: Ledger, decider: Decider, run: RunRef, project_id: str, collected: Collected
) -> Iterator[list[str]]:
    after = ""
    while batch := decide_staged(ledger, run, project_id, after, decider, DECIDE_TRACES):
        after = batch.last_trace_id
        collected.count(batch.decisions)
        if batch.incomplete:
            yield batch.incomplete


def adopt_scores(client: LangfuseClient, ledger: Ledger, run: RunRef, from_us: int) -> set[str]:
    """Note which traces are marked by score on the server, so that none is billed again. The projects they are of."""
    project_ids: set[str] = set()
    for keys in marked_traces(client, from_us):
        put_score_marks(ledger, run, keys)
        project_ids.update(project_id for project_id, _ in keys)
    return project_ids
