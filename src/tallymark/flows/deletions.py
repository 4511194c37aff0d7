"""Deletions: billed traces that a whole read of their range did not meet, and that are gone when asked for by id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from ..ledger import Ledger
from ..ledger.deletions import ReadRange, credit_deleted, note_deleted
from ..ledger.rows import RunRef
from ..source.observations import ObservationPage
from .collect import collect_page
from .observe import decide_all, stage_pages
from .read import observations_of, project_ids_of, traces_of
from .reading import Collected, Range, Reading
from .stations import Stations

log = logging.getLogger("tallymark")
ASKED_IDS = 100
CREDITED_IDS = 500
# More than this of a range, in number and as one part in so many, is no deletion of some traces.
GONE_MAX = 20
GONE_SHARE_MAX = 10
HELD = (
    "%d of %d billed traces are gone in Langfuse, %s: none of them is given back by itself. Decide with "
    "`tallymark held waive --reason deleted --all --why …` (give back) or "
    "`tallymark held release --as-is --reason deleted --all --why …` (leave billed)."
)


def settle_deleted(reading: Reading, span: Range) -> None:
    """Find what is gone of a range that was read as a whole, and give it back, hold it or keep it, as is set.

    Where rows could not be read, nobody can tell what is gone: then nothing is done.
    """
    stations, run, collected = reading.stations, reading.into.run, reading.into.collected
    if collected.unreadable:
        return
    for project_id in project_ids_of(reading):
        to_us = min(span.to_us, span.settled_us)
        read = ReadRange(project_id, reading.chosen.generation, span.from_us, to_us, run.run_id)
        for ids in _batches(stations, read.unseen, ASKED_IDS):
            found = _found(reading, ids)
            if collected.unreadable:
                return
            gone = [(project_id, trace_id) for trace_id in ids if trace_id not in found]
            note_deleted(stations.ledger, run, gone, held=stations.config.deleted_traces != "keep")
        if stations.config.deleted_traces == "credit":
            _credit(stations, read, run, collected)


def _batches(stations: Stations, ask: Callable[[Ledger, str, int], list[str]], limit: int) -> Iterator[list[str]]:
    after = ""
    while ids := ask(stations.ledger, after, limit):
        after = ids[-1]
        yield ids


def _found(reading: Reading, ids: list[str]) -> set[str]:
    """Read traces by their ids, however old, and decide those that are there; which ones these are."""
    found: set[str] = set()
    if reading.chosen.generation == "observations":
        source = observations_of(reading.stations, reading.project)
        stage_pages(_noting(source.read_traces(ids), found), reading.into)
        decide_all(source, reading.into)
    else:
        traces = traces_of(reading.stations, reading.project)
        page = traces.read_many(ids, 0)
        found.update(trace.trace_id for trace in page.traces)
        reading.into.collected.unreadable += page.unreadable
        collect_page(page, traces, reading.into)
    return found


def _noting(pages: Iterator[ObservationPage], found: set[str]) -> Iterator[ObservationPage]:
    for page in pages:
        found.update(each.trace_id for each in page.readings)
        yield page


def _credit(stations: Stations, read: ReadRange, run: RunRef, collected: Collected) -> None:
    sums = read.sums(stations.ledger)
    if not sums["deleted"]:
        return
    if why := doubt_of(sums):
        log.warning(HELD, sums["deleted"], sums["kept"] + sums["deleted"], why)
        return
    for ids in _batches(stations, read.deleted, CREDITED_IDS):
        keys = [(read.project_id, trace_id) for trace_id in ids]
        collected.credits_micros -= credit_deleted(stations.ledger, run, keys, stations.config.meter_bucket)
        collected.adjusted += len(keys)


def doubt_of(sums: Any) -> str:
    """Why so many missing traces are not believed to be deleted one by one; empty if they are.

    Langfuse's retention deletes by age, and a server in trouble may list nothing.
    """
    gone, billed = sums["deleted"], sums["kept"] + sums["deleted"]
    if gone > GONE_MAX and gone * GONE_SHARE_MAX > billed:
        return "which is more than a tenth"
    if sums["oldest_kept_us"] is None or sums["oldest_deleted_us"] < sums["oldest_kept_us"]:
        return "and nothing older is left, as if deleted by age"
    return ""
