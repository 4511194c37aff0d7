"""From one stage of a plan to the next: what is done once, by one worker, when all parts of a stage have ended.

Each step here may be lost at any point, and is then done again from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from ..core.clock import DAY_US, format_time
from ..ledger.plans import (
    DONE,
    FAILED,
    MARK,
    READ,
    SEND,
    Part,
    Plan,
    move_plan,
    open_parts,
    part_problems,
    plan_of,
    stop_plan,
)
from .backfill import BackfillSummary, conclude
from .deletions import settle_deleted
from .mark import Marked
from .parts import require_same_card
from .plan_counts import PartCounts, all_counts, collected_by, collected_counts, counts_of, sent_counts, total
from .planning import BACKFILL, PlanRequest, request_of, run_of
from .progress import Progress
from .read import choose_known, revisit
from .reading import Collected
from .send import Sent, gather
from .stations import Project, Stations
from .sync import (
    after_sending,
    before_sending,
    coverage_after,
    finish_sync,
    first_summary,
    purpose_of,
    reading_of,
)

# More than there are workers, usually; one that finds nothing open is over at once.
SHARDS = 8
MARKS_EACH = 2000


def advance(stations: Stations, plan_id: str, progress: Progress) -> bool:
    """Bring a plan to its next stage, or to its end, if all parts of its stage have ended; whether it went on.

    Raises what reading, sending or marking does; the plan is then where it was.
    """
    plan = plan_of(stations.ledger, plan_id)
    if plan is None or plan.has_ended or open_parts(stations.ledger, plan_id):
        return False
    require_same_card(stations, plan)
    if problem := _problem(stations, plan):
        stop_plan(stations.ledger, plan, FAILED, problem, stations.clock.now_us())
    elif plan.stage == READ:
        _end_reading(stations, plan, progress)
    elif plan.stage == SEND:
        _end_sending(stations, plan, progress)
    else:
        _end_sync(stations, plan)
    return True


def _problem(stations: Stations, plan: Plan) -> str:
    """Why a plan cannot go on: the first part that could not be done."""
    failed = (row for row in part_problems(stations.ledger, plan.plan_id) if row["state"] == "failed")
    row = next(failed, None)
    if row is None:
        return ""
    window = f"the window from {format_time(row['from_us'])}" if row["from_us"] is not None else f"a {plan.stage} part"
    return f"{window} could not be done: {row['problem']}"


# --- after reading


def _end_reading(stations: Stations, plan: Plan, progress: Progress) -> None:
    request, collected = request_of(plan), Collected()
    for project in stations.projects:
        if project.source_key in request.spans:
            _finish_reading(stations, plan, request, project, collected)
    counts = collected_counts(collected)
    counts.revisited = collected.read
    if plan.kind == BACKFILL:
        _end_backfill(stations, plan, counts, progress)
        return
    run = run_of(stations, plan)
    before_sending(stations, run)
    gather(stations.ledger, run, stations.config.lateness)
    is_open = stations.ledger.next_attempt_at_us() is not None
    _move(
        stations, plan, SEND, [Part(plan.plan_id, SEND, number) for number in range(SHARDS if is_open else 0)], counts
    )


def _finish_reading(
    stations: Stations, plan: Plan, request: PlanRequest, project: Project, collected: Collected
) -> None:
    """What follows when all windows of a source are read: held traces, deleted ones, and what is covered now."""
    run, chosen = run_of(stations, plan), choose_known(stations, project)
    reading = reading_of(stations, project, chosen, run, request.only_pending, collected=collected)
    revisit(reading)
    if plan.kind == BACKFILL:
        return
    span = request.spans[project.source_key]
    if request.is_whole and not all_counts(stations.ledger, plan).unreadable:
        settle_deleted(reading, span)
    covered = coverage_after(stations, project, purpose_of(request.only_pending), span)
    if covered is not None:
        stations.ledger.put_coverage(covered)


def _end_backfill(stations: Stations, plan: Plan, counts: PartCounts, progress: Progress) -> None:
    run, counts = run_of(stations, plan), total([all_counts(stations.ledger, plan), counts])
    summary = BackfillSummary(run.run_id, False, format_time(plan.from_us), format_time(plan.to_us or run.now_us))
    conclude(stations, run, summary, [_collected(stations, plan, counts)], counts.requests, progress)
    move_plan(stations.ledger, plan, DONE, stations.clock.now_us(), counts=plan.counts)


def _collected(stations: Stations, plan: Plan, counts: PartCounts) -> Collected:
    request = request_of(plan)
    # Traces that were revisited may be older than all that was to be read.
    from_us = 0 if counts.revisited else request.oldest_us - DAY_US
    return collected_by(stations.ledger, plan, counts, from_us, request.after_entry_id)


# --- after sending


def _end_sending(stations: Stations, plan: Plan, progress: Progress) -> None:
    sent = Sent()
    after_sending(stations, run_of(stations, plan), False, progress, sent)
    batches = [part for project in stations.projects for part in _batches(stations, plan, project)]
    parts = [replace(part, number=number) for number, part in enumerate(batches)]
    _move(stations, plan, MARK, parts, sent_counts(sent))


def _batches(stations: Stations, plan: Plan, project: Project) -> Iterator[Part]:
    """Batches of the traces of a project that are owed marks, in order of their ids; the last one has no end."""
    project_id = stations.ledger.fact(f"project {project.source_key}")
    if project_id is None or not stations.ledger.owed_marks(project_id, "", 1):
        return
    rows = stations.ledger.query("mark_batches", project_id=project_id, size=MARKS_EACH)
    for after, through in pairwise(["", *(row["trace_id"] for row in rows), ""]):
        yield Part(plan.plan_id, MARK, 0, project.source_key, after_trace_id=after, through_trace_id=through)


def _end_sync(stations: Stations, plan: Plan) -> None:
    request, run = request_of(plan), run_of(stations, plan)
    counts = all_counts(stations.ledger, plan)
    chosen = [choose_known(stations, project) for project in stations.projects]
    summary = first_summary(run, request.spans, chosen, False)
    marked = Marked(counts.marked, counts.marks_failed)
    finish_sync(stations, run, summary, [_collected(stations, plan, counts)], counts.sent(), [marked], counts.requests)
    move_plan(stations.ledger, plan, DONE, stations.clock.now_us(), counts=plan.counts)


def _move(stations: Stations, plan: Plan, stage: str, parts: list[Part], counts: PartCounts) -> None:
    """Bring a plan to a stage with its parts, and add what was counted on the way."""
    counts.requests += stations.requests
    text = total([counts_of(plan.counts), counts]).text()
    move_plan(stations.ledger, plan, stage, stations.clock.now_us(), parts=parts, counts=text)
