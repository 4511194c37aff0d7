"""Sync: collect, send, mark; and say what was done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from .. import machine
from ..config import Config
from ..core.clock import SECOND_US, Clock, format_time
from ..core.credits import format_micros
from ..core.states import Answer
from ..core.types import Reason
from ..errors import NotFound
from ..ledger import Ledger
from ..ledger.ledger import Coverage
from ..ledger.reports import unexplained_reports
from ..ledger.rows import Asked, RunRef
from ..ledger.rulings import ruling_of
from ..rating.cards import card_text
from .bulk import export_first, read_clickhouse, read_clickhouse_changes
from .cancel import cancel_lower
from .clocks import clock_problem, require_right_clock
from .collect import log_unknown_marks, remember_projects
from .decide import Decider
from .deletions import settle_deleted
from .doubt import settle_doubts
from .mark import Marked, mark
from .meters import check_meter
from .periods import read_periods
from .progress import Progress, quiet
from .ranges import check_range
from .read import (
    choose_generation,
    choose_known,
    collect_span,
    collect_trace,
    marks_by_score,
    read_in_its_mode,
    style_of,
)
from .reading import Chosen, Collected, Range, Reading, Recording, range_of
from .reports import take_reports
from .send import Sent, send
from .stations import Project, Stations, open_stations
from .streamed import settle_streamed
from .summary import FAILURES_MAX, Failure, MarkCounts, MeterEvents, Requests, SyncSummary
from .usage_sums import store_usage_sums

log = logging.getLogger("tallymark")


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked of a sync."""

    trace_id: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    full: bool = False
    only_pending: bool = False
    ask_at_once: bool = False
    """Ask Stripe about all that is in doubt, also what was asked about a few hours ago."""

    @property
    def is_incremental(self) -> bool:
        """Whether what is new is read, and no range of somebody's choice."""
        return not self.full and self.from_us is None and self.to_us is None

    @property
    def is_whole(self) -> bool:
        """Whether everything of a chosen range is read, so that what is not met there is gone."""
        return (self.full or self.from_us is not None) and not self.only_pending


def sync(
    config: Config,
    *,
    trace_id: str | None = None,
    from_us: int | None = None,
    to_us: int | None = None,
    full: bool = False,
    use_tag_filtering: bool | None = None,
    dry_run: bool = False,
    clock: Clock | None = None,
    progress: Progress = quiet,
    asked: Asked | None = None,
) -> SyncSummary:
    """Collect new usage, send it to the meter and mark its traces; returns what `tallymark sync --json` prints.

    Reads what is new and the overlap; with `full` the whole look-back; or the range or the one trace that is named.
    `from_us` and `to_us` are microseconds since 1970. A dry run writes nothing anywhere.
    `asked` says who asked for it, if it was not started by hand.
    Raises ConfigError, RemoteError or LedgerError; whatever was recorded before stays, and the next run goes on.
    """
    check_range(from_us, to_us)
    only_pending = config.use_tag_filtering if use_tag_filtering is None else use_tag_filtering
    request = Request(trace_id, from_us, to_us, full, only_pending and trace_id is None)
    with open_stations(config, dry_run=dry_run, clock=clock) as stations:
        return run_sync(stations, request, dry_run, progress, asked)


def run_sync(
    stations: Stations, request: Request, dry_run: bool, progress: Progress, asked: Asked | None = None
) -> SyncSummary:
    """One sync over stations that are open already."""
    run, reported, spans, chosen = begin_sync(stations, request, asked)
    read = [
        _collect(stations, project, request, run, spans[project.source_key], chosen[project.source_key], progress)
        for project in stations.projects
    ]
    collected = [each for _, each in read]
    summary = first_summary(run, spans, [through for through, _ in read], dry_run)
    _require_found(request, collected)
    sent = _send(stations, run, request.ask_at_once, progress)
    sent.reported += reported
    marked = [mark_project(stations, project, progress) for project in stations.projects]
    finish_sync(stations, run, summary, collected, sent, marked, Requests())
    return summary


def begin_sync(
    stations: Stations, request: Request, asked: Asked | None
) -> tuple[RunRef, int, dict[str, Range], dict[str, Chosen]]:
    """Look whether meter and clocks are right, and what is to be read: the run, how many meter events Stripe reported
    as not counted, and by source the range and the generation."""
    check_meter(stations)
    _log_clock(stations)
    run = start_run(stations, "sync", asked)
    reported = take_reports(stations, run)
    spans = {project.source_key: _span(stations, project, request, run.now_us) for project in stations.projects}
    chosen = {project.source_key: choose_generation(stations, project) for project in stations.projects}
    for project in stations.projects:
        require_right_clock(project.client, stations.clock.now_us())
    return run, reported, spans, chosen


def finish_sync(
    stations: Stations,
    run: RunRef,
    summary: SyncSummary,
    collected: Sequence[Collected],
    sent: Sent,
    marked: Sequence[Marked],
    made_before: Requests,
) -> None:
    """When all is sent and marked: fill the summary, end the run, and log what looks wrong.

    `made_before` are requests of other processes.
    """
    store_usage_sums(stations.ledger)
    _fill(summary, stations, run, collected, sent, marked)
    summary.requests = made_before + stations.requests
    stations.ledger.finish_run(run.run_id, summary.encode(), stations.clock.now_us())
    log_unknown_marks(stations.ledger, collected)
    _log_untagged(summary)
    _log_filtered(summary)


def _send(stations: Stations, run: RunRef, ask_at_once: bool, progress: Progress) -> Sent:
    """Send what is owed, and settle what is in doubt."""
    before_sending(stations, run)
    sent = send(stations.ledger, stations.meter, run, stations.clock, progress, stations.config.lateness)
    after_sending(stations, run, ask_at_once, progress, sent)
    return sent


def before_sending(stations: Stations, run: RunRef) -> None:
    """Learn which periods are over, and cancel what lower usage allows to."""
    read_periods(stations)
    cancel_lower(stations, run)


def after_sending(stations: Stations, run: RunRef, ask_at_once: bool, progress: Progress, sent: Sent) -> None:
    """Settle what is in doubt, and count it; what turns out not to have been counted by Stripe is sent at once."""
    settled = settle_streamed(stations, run) + settle_doubts(stations, run, at_once=ask_at_once)
    if settled.not_sent:
        lateness = stations.config.lateness
        sent.answers += send(stations.ledger, stations.meter, run, stations.clock, progress, lateness).answers
    sent.settled += settled.accepted + settled.not_sent
    sent.reported += settled.taken_back


def _require_found(request: Request, collected: Sequence[Collected]) -> None:
    if request.trace_id is not None and not any(each.read for each in collected):
        raise NotFound(f"there is no trace {request.trace_id!r} in the projects of these keys (LANGFUSE_PUBLIC_KEY).")


def start_run(stations: Stations, verb: str, asked: Asked | None = None) -> RunRef:
    """Begin a run: its id, its moment, and the settings it decides by."""
    config, now_us = stations.config, stations.clock.now_us()
    run_id, by = asked or Asked(machine.current().random_hex(32), "")
    run = RunRef(run_id, now_us, config.decision_digest)
    stations.ledger.start_run(run_id, verb, now_us, config.rate_card.digest, card_text(config.rate_card), by)
    return run


def decider_of(stations: Stations, run: RunRef, only_pending: bool, style: str) -> Decider:
    """What decides the traces of a run."""
    ledger = stations.ledger
    return Decider(
        stations.config,
        run.run_id,
        run.now_us,
        ledger.billed_by_meter,
        ledger.rate_cards(),
        only_pending,
        marks_by_score=style == "score",
        ruling_of=partial(ruling_of, ledger),
        waived_by_meter=ledger.waived_by_meter,
    )


def reading_of(
    stations: Stations,
    project: Project,
    chosen: Chosen,
    run: RunRef,
    only_pending: bool = False,
    *,
    collected: Collected | None = None,
    progress: Progress = quiet,
) -> Reading:
    """One project as a run reads it, decided by the settings. `collected`: what was counted of it before."""
    decider = decider_of(stations, run, only_pending, style_of(stations, chosen))
    counted = collected if collected is not None else Collected()
    return Reading(stations, project, chosen, Recording(stations.ledger, decider, run, counted, progress))


def purpose_of(only_pending: bool) -> str:
    """Coverage is kept apart: what was read with tag filtering says nothing about untagged traces."""
    return "sync-filtered" if only_pending else "sync"


def _span(stations: Stations, project: Project, request: Request, now_us: int) -> Range:
    config = stations.config
    covered = _covered(stations, project, purpose_of(request.only_pending))
    if request.from_us is not None:
        from_us = request.from_us
    elif covered is None or request.full:
        from_us = now_us - config.lookback_us
    else:
        from_us = max(covered.from_us, covered.to_us - config.overlap_us)
    return range_of(from_us, request.to_us, now_us, config.settle_us)


def _covered(stations: Stations, project: Project, purpose: str) -> Coverage | None:
    """What was covered before, as far as it can be believed."""
    covered = stations.ledger.coverage(project.source_key, purpose)
    return covered.believed(stations.clock.now_us(), stations.config.lookback_us) if covered is not None else None


def coverage_after(stations: Stations, project: Project, purpose: str, span: Range) -> Coverage | None:
    """What is covered when a range is read; None if that is nothing, or leaves a gap behind what was covered before."""
    before = _covered(stations, project, purpose)
    to_us = min(span.to_us, span.settled_us)
    if to_us <= span.from_us:
        return None
    if before is None:
        return Coverage(project.source_key, purpose, span.from_us, to_us)
    if span.from_us > before.to_us or to_us < before.to_us:
        return None
    return Coverage(project.source_key, purpose, min(before.from_us, span.from_us), to_us)


def _collect(
    stations: Stations,
    project: Project,
    request: Request,
    run: RunRef,
    span: Range,
    chosen: Chosen,
    progress: Progress,
) -> tuple[Chosen, Collected]:
    """Read one project: what it was read through in the end, and what was found.

    A server whose mode changes on the way is read on through its other generation.
    """
    collected = Collected()

    def read(chosen: Chosen) -> None:
        reading = reading_of(
            stations, project, chosen, run, request.only_pending, collected=collected, progress=progress
        )
        _read(reading, request, span)

    chosen = read_in_its_mode(stations, project, chosen, read)
    remember_projects(stations.ledger, project.source_key, collected.project_ids)
    if collected.bulk:
        also = "" if collected.bulk == "clickhouse" else f", {chosen.generation}"
        chosen = replace(chosen, generation=f"{collected.bulk}{also}")
    return chosen, collected


def _read(reading: Reading, request: Request, span: Range) -> None:
    stations, project = reading.stations, reading.project
    if request.trace_id is not None:
        collect_trace(reading, request.trace_id)
        return
    purpose = purpose_of(request.only_pending)
    check_scores = must_check_scores(stations, project, request, span, reading.chosen)
    if stations.config.bulk_source == "export" and request.is_incremental:
        span = export_first(reading, span, coverage_after(stations, project, purpose, span))
    coverage = coverage_after(stations, project, purpose, span)
    if stations.config.bulk_source == "clickhouse":
        read = read_clickhouse_changes if request.is_incremental else read_clickhouse
        read(reading, span, coverage)
    else:
        collect_span(reading, span, coverage, check_scores=check_scores)
    if request.is_whole:
        settle_deleted(reading, span)


def must_check_scores(stations: Stations, project: Project, request: Request, span: Range, chosen: Chosen) -> bool:
    """Whether the server is asked first which traces it has marked by score: where it was never read, or all is."""
    before = stations.ledger.coverage(project.source_key, purpose_of(request.only_pending))
    is_new = before is None or span.from_us < before.from_us or request.full
    return is_new and marks_by_score(stations, chosen)


def mark_project(stations: Stations, project: Project, progress: Progress) -> Marked:
    """Write the marks that are owed in one project."""
    project_id = stations.ledger.fact(f"project {project.source_key}")
    if project_id is None:
        return Marked()
    style = style_of(stations, choose_known(stations, project))
    return mark(stations.ledger, project.marker, project_id, style, stations.clock, progress)


def first_summary(run: RunRef, spans: dict[str, Range], chosen: Sequence[Chosen], dry_run: bool) -> SyncSummary:
    to_us = min(max(span.to_us for span in spans.values()), run.now_us)
    from_us = min(span.from_us for span in spans.values())
    return SyncSummary(
        run.run_id,
        dry_run,
        _joined(each.generation for each in chosen),
        _joined(each.reason for each in chosen),
        _joined(each.version for each in chosen),
        format_time(from_us),
        format_time(to_us),
    )


def _joined(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))


def _fill(
    summary: SyncSummary,
    stations: Stations,
    run: RunRef,
    collected: Sequence[Collected],
    sent: Sent,
    marked: Sequence[Marked],
) -> None:
    ledger = stations.ledger
    results = sum((each.results for each in collected), Counter[str]())
    summary.count_results(results, ledger.unpaid(run.run_id))
    unreadable = [problem for each in collected for problem in each.unreadable]
    summary.fetched += len(unreadable)
    summary.failed += len(unreadable)
    failures = [Failure(*failure) for failure in ledger.failures(run.run_id, FAILURES_MAX)]
    summary.failures = (failures + [Failure("", problem) for problem in unreadable])[:FAILURES_MAX]
    summary.adjusted = sum(each.adjusted for each in collected)
    summary.healed = sum(each.healed for each in collected)
    summary.untagged = sum(each.untagged for each in collected)
    summary.adopted = sum(each.adopted for each in collected)
    summary.credits = format_micros(sum(each.credits_micros for each in collected))
    summary.meter_events = _meter_events(sent, ledger)
    summary.marks = MarkCounts(sum(each.written for each in marked), sum(each.failed for each in marked))
    summary.seconds = (stations.clock.now_us() - run.now_us) / SECOND_US


def _meter_events(sent: Sent, ledger: Ledger) -> MeterEvents:
    open_now = ledger.open_meter_events()
    return MeterEvents(
        accepted=sent.answers[Answer.ACCEPTED],
        duplicate=sent.answers[Answer.DUPLICATE],
        rejected=open_now.get("rejected", 0),
        in_doubt=open_now.get("in_doubt", 0),
        settled=sent.settled,
        reported=sent.reported,
        open_reports=unexplained_reports(ledger),
        streamed=open_now.get("streamed", 0),
    )


def _log_clock(stations: Stations) -> None:
    if problem := clock_problem(stations.ledger, stations.clock.now_us()):
        log.warning("%s.", problem)


def _log_untagged(summary: SyncSummary) -> None:
    if summary.untagged:
        share = 100 * summary.untagged / summary.fetched
        log.warning(
            "%d of %d traces (%.1f %%) carried no billing tag; they were billed or marked all the same. "
            "Tag traces at creation before you switch tag filtering on.",
            summary.untagged,
            summary.fetched,
            share,
        )


def _log_filtered(summary: SyncSummary) -> None:
    """Where the server cannot be asked by tag, what tag filtering leaves out is read and can be told."""
    if filtered := summary.skipped[Reason.FILTERED]:
        log.warning(
            "tag filtering is on: %d of %d traces carried no tag billing:pending and were not billed (skipped as "
            "filtered). Switch it off where a server is read through observations; it saves no request there.",
            filtered,
            summary.fetched,
        )
