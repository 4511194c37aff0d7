"""Collect from a bulk source: an engine adds up whole traces, which are decided and recorded a batch at a time.

The source is Langfuse's blob export, where it ends the API goes on; or its ClickHouse (docs/adr/0040).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from ..core.clock import DAY_US, HOUR_US, format_time
from ..core.decisions import Known, Outcome, TraceKey, key_of
from ..core.types import Trace
from ..errors import NotFound
from ..ledger.ledger import Coverage
from ..ledger.staging import score_marks
from ..rating.rules import AiBasis
from ..source.clickhouse import ClickHouseServer, ClickHouseSource
from ..source.export import ExportSource
from ..source.export_files import open_store
from ..source.projects import project_id_of
from ..source.rows import Page
from ..source.traces import IdStream
from .collect import confirm_shrunk, distinct, held_stale, reached, remember_projects
from .read import look_at_scores, project_ids_of, traces_of
from .read_ahead import ahead, batches
from .reading import Range, Reading
from .stations import Project, Stations

log = logging.getLogger("tallymark")
BATCH_PAGES = 16
Noticed = Callable[[Sequence[Trace], Mapping[TraceKey, Known]], list[Trace]]
"""Adds to traces how Langfuse says by now that they are processed."""

LATE = (
    "the export holds what had reached Langfuse when each file was written, up to %s. What came later is in no file: "
    "`tallymark sync --from %s` reads it through the API, and each `tallymark sync --full` the look-back."
)


def _collect(
    source: ExportSource | ClickHouseSource, pages: Iterator[Page], reading: Reading, wanted: Wanted, noticed: Noticed
) -> int:
    """Decide and record every trace, each batch in one transaction; how many look cheaper than they were billed."""
    into, span, coverage, cheaper = reading.into, wanted.span, wanted.coverage, 0
    ledger, decider, collected = into.ledger, into.decider, into.collected
    collected.bulk = source.name
    for batch in batches(ahead(pages), BATCH_PAGES):
        traces = distinct(trace for page in batch for trace in page.traces if span.settles(trace))
        snapshot = ledger.snapshot(traces)
        traces = noticed([trace for trace in traces if _is_meant(trace, span, snapshot.known)], snapshot.known)
        if coverage is not None:
            remember_projects(ledger, coverage.source_key, {t.project_id for t in traces} - collected.project_ids)
        collected.count(ledger.record(into.run, traces, decider, reached(coverage, batch, span), snapshot))
        collected.rows += sum(page.rows for page in batch)
        collected.unreadable += [problem for page in batch for problem in page.unreadable]
        cheaper += len(decider.shrunk)
        confirm_shrunk(source, into)
        into.progress("read", collected.rows, None)
    if coverage is not None:
        ledger.put_coverage(coverage)
    return cheaper


def _is_meant(trace: Trace, span: Range, known: Mapping[TraceKey, Known]) -> bool:
    """A trace that began before the range is billed by whoever reads that; one that is billed may have grown since."""
    return span.from_us <= trace.timestamp_us or key_of(trace) in known


# ---- the export


def _export_of(stations: Stations, project: Project, reach_us: int) -> ExportSource:
    """The export of a project. Raises ConfigError if there is none, or a package is missing."""
    store = open_store(stations.config.export_url or "", stations.config.export_s3_endpoint)
    return ExportSource(store, _project_id(stations, project), reach_us, by_model=_rates_by_model(stations))


def _rates_by_model(stations: Stations) -> bool:
    return any(rule.ai is AiBasis.TOKENS for rule in stations.config.rate_card.rules)


def _project_id(stations: Stations, project: Project) -> str:
    """By the keys, so that nothing of another project is billed by these."""
    known = stations.ledger.fact(f"project {project.source_key}")
    return known or project_id_of(project.client)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of an export is wanted: a range, what is covered once it is read, how far around it parts are looked for."""

    span: Range
    coverage: Coverage | None
    reach_us: int


def export_alone(reading: Reading, wanted: Wanted) -> None:
    """Read a range from the export and from nothing else; what it lacks is said. Raises NotFound if it has nothing."""
    source, span = _export_of(reading.stations, reading.project, wanted.reach_us), wanted.span
    to_us = min(source.ends_us(span.from_us), span.to_us, span.settled_us)
    if to_us <= span.from_us:
        raise NotFound(f"the export holds nothing from {format_time(span.from_us)} on; `tallymark doctor` says more")
    for start_us, end_us in source.gaps(span.from_us, to_us):
        log.warning("the export lacks the time from %s to %s: the API may have it.", *_times(start_us, end_us))
    _read_export(reading, source, _up_to(wanted, to_us))
    log.warning(LATE, *_times(to_us, span.from_us))


def export_first(reading: Reading, span: Range, coverage: Coverage | None) -> Range:
    """Read from the export what is not covered yet, if that is more than an hour; what is left for the API.

    `coverage` is what will be covered. The API reads the last hours of it again, and whatever is younger.
    """
    stations = reading.stations
    reach_us = max(stations.config.overlap_us, HOUR_US)
    covered = stations.ledger.coverage(coverage.source_key, coverage.purpose) if coverage is not None else None
    from_us = max(span.from_us, covered.to_us) if covered is not None else span.from_us
    settled_us = min(span.to_us, span.settled_us)
    if settled_us - from_us <= reach_us:
        return span
    source = _export_of(stations, reading.project, reach_us)
    to_us = min(source.complete_up_to(from_us), settled_us)
    if to_us - from_us <= reach_us:
        log.warning("the export does not tell of the time from %s on: the API is read instead.", format_time(to_us))
        return span
    _read_export(reading, source, _up_to(Wanted(replace(span, from_us=from_us), coverage, reach_us), to_us))
    return replace(span, from_us=max(span.from_us, to_us - reach_us))


def _up_to(wanted: Wanted, to_us: int) -> Wanted:
    coverage = wanted.coverage
    if coverage is not None:
        coverage = replace(coverage, to_us=min(coverage.to_us, to_us))
    return replace(wanted, span=replace(wanted.span, to_us=to_us), coverage=coverage)


def _read_export(reading: Reading, source: ExportSource, wanted: Wanted) -> None:
    span = wanted.span
    cheaper = _collect(source, source.read(span.from_us, span.to_us), reading, wanted, _noticed_by_api(reading, span))
    _log_export(source, cheaper)


def _times(*moments_us: int) -> tuple[str, ...]:
    return tuple(format_time(moment_us) for moment_us in moments_us)


def _log_export(source: ExportSource, cheaper: int) -> None:
    if source.orphans:
        log.warning(
            "the export holds observations of %d traces and not these traces themselves, which began before what was "
            "read, or came after their file was written: the API reads them.",
            source.orphans,
        )
    if cheaper:
        log.warning(
            "%d traces look cheaper in the export than they were billed: a part of them lies where was not read, or "
            "changed. Nothing is lowered by an export; `tallymark reconcile` compares them through the API.",
            cheaper,
        )


def _noticed_by_api(reading: Reading, span: Range) -> Noticed:
    """Marks were written after the files were, so the server is asked for them; only if the ledger lacks a trace."""
    stations, project = reading.stations, reading.project
    from_us, to_us = span.from_us - DAY_US, span.to_us
    if reading.chosen.generation == "observations":
        look_at_scores(stations, project, reading.into.run, replace(span, from_us=from_us))
        return lambda traces, known: _with_scores(stations, traces, known)
    source = traces_of(stations, project)
    marks = source.marked(from_us, to_us)
    return lambda traces, known: [_with_marks(trace, marks) if _is_new(trace, known) else trace for trace in traces]


def _is_new(trace: Trace, known: Mapping[TraceKey, Known]) -> bool:
    one = known.get(key_of(trace))
    return not trace.marked and (one is None or one.outcome != Outcome.BILLED)


def _with_marks(trace: Trace, marks: Mapping[str, IdStream]) -> Trace:
    marked = ",".join(how for how, among in marks.items() if trace in among)
    return replace(trace, marked=marked) if marked else trace


def _with_scores(stations: Stations, traces: Sequence[Trace], known: Mapping[TraceKey, Known]) -> list[Trace]:
    new = [key_of(trace) for trace in traces if _is_new(trace, known)]
    scored = score_marks(stations.ledger, new) if new else set()
    return [replace(trace, marked="score") if key_of(trace) in scored else trace for trace in traces]


# ---- ClickHouse


def read_clickhouse(reading: Reading, span: Range, coverage: Coverage | None) -> None:
    """Read a range from ClickHouse instead of the API, and what is held and was decided under other settings."""
    with _clickhouse_of(reading) as source:
        to_us = min(span.to_us, span.settled_us)
        # Hardly any trace lies in the future, so one window asks for all of it.
        pages = chain(source.read(span.from_us, to_us), source.read_at_once(span.future_us, span.to_us))
        _collect_all(source, pages, reading, Wanted(span, coverage, 0))


def read_clickhouse_changes(reading: Reading, span: Range, coverage: Coverage | None) -> None:
    """Read from ClickHouse what was written since the last time, whenever it happened; at first all of the range.

    How far that is, by the time of writing, is a coverage of its own. It is believed less the overlap, for rows that
    another table gave later (facts/langfuse.md section 6).
    """
    if coverage is None:
        read_clickhouse(reading, span, coverage)
        return
    ledger, config, run = reading.into.ledger, reading.stations.config, reading.into.run
    purpose = f"clickhouse-{coverage.purpose}"
    written = ledger.coverage(reading.project.source_key, purpose)
    if written is None or span.from_us < written.from_us:
        read_clickhouse(reading, span, coverage)
    else:
        since_us = written.believed(run.now_us, config.lookback_us).to_us - max(config.overlap_us, HOUR_US)
        wanted = Wanted(replace(span, from_us=coverage.from_us), coverage, 0)
        with _clickhouse_of(reading) as source:
            _collect_all(source, source.changed(since_us), reading, wanted)
    ledger.put_coverage(Coverage(reading.project.source_key, purpose, coverage.from_us, span.settled_us))


def _collect_all(source: ClickHouseSource, pages: Iterator[Page], reading: Reading, wanted: Wanted) -> None:
    into = reading.into
    _collect(source, pages, reading, wanted, _as_they_are)
    for project_id in project_ids_of(reading):
        for ids in held_stale(into.ledger, into.run, project_id):
            traces = distinct(source.read_many(ids).traces)
            into.collected.count(into.ledger.record(into.run, traces, into.decider))
            confirm_shrunk(source, into)


def _as_they_are(traces: Sequence[Trace], _known: Mapping[TraceKey, Known]) -> list[Trace]:
    """What ClickHouse tells of marks is how they are now."""
    return list(traces)


@contextlib.contextmanager
def _clickhouse_of(reading: Reading) -> Iterator[ClickHouseSource]:
    """The ClickHouse of a project, which is read by the rules of the API that its server offers."""
    stations = reading.stations
    config = stations.config
    with contextlib.closing(ClickHouseServer(config.clickhouse_url or "")) as server:
        yield ClickHouseSource(
            server,
            _project_id(stations, reading.project),
            reading.chosen.generation,
            by_model=_rates_by_model(stations),
            window_us=config.window_us_max,
        )
