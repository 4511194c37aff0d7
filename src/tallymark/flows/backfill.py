"""Backfill: bring old traces into the ledger, tag the unbilled ones, and say whether tag filtering is safe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from ..clock import SystemClock
from ..config import Config
from ..core.clock import DAY_US, SECOND_US, Clock, format_time
from ..core.credits import format_micros
from ..core.decisions import PROCESSED
from ..core.types import HELD, SKIPPED
from ..core.windows import STRIPE_AGE_MAX_US
from ..ledger import Ledger
from ..ledger.ledger import Coverage
from ..ledger.rows import RunRef
from ..marks.langfuse import Mark
from .bulk import Wanted, export_alone, read_clickhouse
from .collect import log_unknown_marks, remember_projects
from .mark import KEPT
from .progress import Progress, quiet
from .ranges import check_range
from .read import choose_generation, choose_known, collect_span, marks_by_score
from .reading import Collected, range_of
from .stations import Project, Stations, open_stations
from .summary import Requests, count_reasons, zeros
from .sync import reading_of, start_run
from .usage_sums import store_usage_sums

ROWS = 1000
PURPOSE = "backfill"


class BackfillSummary(msgspec.Struct):
    """Counts of one backfill. `owed` are traces whose usage is in the ledger and will be sent by the next sync."""

    run_id: str
    dry_run: bool
    from_: str = msgspec.field(name="from")
    to: str
    fetched: int = 0
    owed: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=lambda: zeros(SKIPPED))
    held: dict[str, int] = msgspec.field(default_factory=lambda: zeros(HELD))
    failed: int = 0
    credits: str = "0.000000"
    tagged: int = 0
    tags_failed: int = 0
    tag_filtering_safe: bool = False
    why_not: list[str] = msgspec.field(default_factory=list)
    requests: Requests = msgspec.field(default_factory=Requests)
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 if all is done, 1 if something failed or is held."""
        return 1 if self.failed or self.tags_failed or sum(self.held.values()) else 0


def backfill(
    config: Config,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    dry_run: bool = False,
    clock: Clock | None = None,
    progress: Progress = quiet,
) -> BackfillSummary:
    """Read history (35 days unless a range is named), record what it owes, and tag unbilled traces billing:pending.

    Sends nothing to the meter: the next sync does. Stopped half-way, it goes on where it was when run again with the
    same range. Raises ConfigError, RemoteError or LedgerError.
    """
    clock = clock or SystemClock()
    start_us = from_us if from_us is not None else clock.now_us() - STRIPE_AGE_MAX_US
    check_range(start_us, to_us)
    with open_stations(config, dry_run=dry_run, clock=clock) as stations:
        return _run(stations, start_us, to_us, dry_run, progress)


def _run(stations: Stations, from_us: int, to_us: int | None, dry_run: bool, progress: Progress) -> BackfillSummary:
    run = start_run(stations, PURPOSE)
    collected = [_collect(stations, project, run, from_us, to_us, progress) for project in stations.projects]
    summary = BackfillSummary(run.run_id, dry_run, format_time(from_us), format_time(to_us or run.now_us))
    conclude(stations, run, summary, collected, Requests(), progress)
    return summary


def conclude(
    stations: Stations,
    run: RunRef,
    summary: BackfillSummary,
    collected: Sequence[Collected],
    made_before: Requests,
    progress: Progress,
) -> None:
    """When everything is read: tag what is unbilled, fill the summary, and end the run.

    `made_before` are requests of other processes.
    """
    untagged_lately = sum(_untagged_since(stations, project, run.now_us - DAY_US) for project in stations.projects)
    tagged = [_tag(stations, project, progress) for project in stations.projects]
    store_usage_sums(stations.ledger)
    _fill(summary, stations, run, collected, tagged, untagged_lately)
    summary.requests = made_before + stations.requests
    stations.ledger.finish_run(run.run_id, msgspec.json.encode(summary), stations.clock.now_us())
    log_unknown_marks(stations.ledger, collected)


def _collect(
    stations: Stations, project: Project, run: RunRef, from_us: int, to_us: int | None, progress: Progress
) -> Collected:
    ledger = stations.ledger
    resume_us = _resume_us(ledger, project, from_us, run.now_us)
    span = range_of(resume_us, to_us or run.now_us, run.now_us, stations.config.settle_us)
    coverage = Coverage(project.source_key, PURPOSE, from_us, min(span.to_us, span.settled_us))
    chosen = choose_generation(stations, project)
    reading = reading_of(stations, project, chosen, run, progress=progress)
    if stations.config.bulk_source == "export":
        export_alone(reading, Wanted(span, coverage, DAY_US))
    elif stations.config.bulk_source == "clickhouse":
        read_clickhouse(reading, span, coverage)
    else:
        collect_span(reading, span, coverage, check_scores=marks_by_score(stations, chosen))
    collected = reading.into.collected
    remember_projects(ledger, project.source_key, collected.project_ids)
    ledger.forget_coverage(project.source_key, PURPOSE)
    return collected


def _resume_us(ledger: Ledger, project: Project, from_us: int, now_us: int) -> int:
    """Where an unfinished backfill stood, if it had read from_us already; a finished one leaves no trace of itself.

    One that stood in the future went by a wrong clock, and begins anew.
    """
    covered = ledger.coverage(project.source_key, PURPOSE)
    if covered is None or covered.to_us > now_us:
        return from_us
    return covered.to_us if covered.from_us <= from_us <= covered.to_us else from_us


def _project_id(stations: Stations, project: Project) -> str:
    return stations.ledger.fact(f"project {project.source_key}") or ""


def _untagged_since(stations: Stations, project: Project, since_us: int) -> int:
    ledger, project_id = stations.ledger, _project_id(stations, project)
    row = next(iter(ledger.query("count_untagged", project_id=project_id, since_us=since_us)))
    # A trace that an earlier backfill tagged came untagged all the same.
    remembered = f"newest untagged {project_id}"
    newest_us = max(row["newest_us"] or 0, int(ledger.fact(remembered) or 0))
    ledger.put_fact(remembered, str(newest_us))
    return row["traces"] or int(newest_us >= since_us)


def _tag(stations: Stations, project: Project, progress: Progress) -> tuple[int, int]:
    """Tag unbilled traces billing:pending; a bookmarked one is left alone, since an upsert would lose the bookmark."""
    ledger, taken, failed = stations.ledger, 0, 0
    if choose_known(stations, project).generation == "observations":
        return 0, 0
    for written in project.marker.write(_untagged(ledger, _project_id(stations, project))):
        ledger.tagged(written.taken)
        taken += len(written.taken)
        failed += len(written.refused)
        progress("mark", taken, None)
    return taken, failed


def _untagged(ledger: Ledger, project_id: str) -> Iterator[Mark]:
    after = ""
    while rows := ledger.untagged(project_id, after, ROWS):
        after = rows[-1]["trace_id"]
        for row in rows:
            kept = {theirs: row[ours] for ours, theirs in KEPT.items() if row[ours]}
            yield Mark(
                project_id,
                row["trace_id"],
                row["timestamp_us"],
                row["environment"],
                bool(row["public"]),
                by_score=False,
                meter_event_id=None,
                details=None,
                kept=kept,
                pending_only=True,
            )


def _fill(
    summary: BackfillSummary,
    stations: Stations,
    run: RunRef,
    collected: Sequence[Collected],
    tagged: Sequence[tuple[int, int]],
    untagged_lately: int,
) -> None:
    results = sum((each.results for each in collected), Counter[str]())
    count_reasons(summary.skipped, results)
    count_reasons(summary.held, results)
    summary.owed = results[PROCESSED]
    summary.fetched = results.total()
    unreadable = sum(len(each.unreadable) for each in collected)
    summary.fetched += unreadable
    summary.failed = unreadable
    summary.credits = format_micros(sum(each.credits_micros for each in collected))
    summary.tagged = sum(taken for taken, _ in tagged)
    summary.tags_failed = sum(failed for _, failed in tagged)
    summary.why_not = _why_not(summary, untagged_lately)
    if any(choose_known(stations, project).generation == "observations" for project in stations.projects):
        summary.why_not.append("a server without the trace list cannot be asked by tag, nor tagged; leave it off")
    summary.tag_filtering_safe = not summary.why_not
    summary.seconds = (stations.clock.now_us() - run.now_us) / SECOND_US


def _why_not(summary: BackfillSummary, untagged_lately: int) -> list[str]:
    """What stands against switching tag filtering on; empty if nothing does."""
    reasons = []
    if untagged_lately:
        reasons.append(
            f"{untagged_lately} traces of the last 24 hours came without billing:pending; "
            "tag traces at creation in the application first, or new ones will be missed"
        )
    if summary.tags_failed:
        reasons.append(f"{summary.tags_failed} traces could not be tagged; run backfill again")
    if summary.failed:
        reasons.append(f"{summary.failed} rows could not be read")
    if summary.dry_run and summary.tagged:
        reasons.append(f"this was a dry run: {summary.tagged} traces are not tagged yet")
    return reasons
