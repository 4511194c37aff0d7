"""Plans for several workers: a backfill or a sync is cut into windows, and workers do the rest (docs/adr/0039)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import msgspec

from ..core.clock import HOUR_US, MINUTE_US, format_time
from ..core.windows import STRIPE_AGE_MAX_US
from ..errors import ConfigError
from ..ledger.plans import READ, Part, Plan, open_plans, put_plan
from ..ledger.rows import Asked, RunRef
from .backfill import PURPOSE
from .plan_counts import PartCounts
from .read import choose_generation, look_at_scores, marks_by_score
from .reading import Range, range_of
from .stations import Project, Stations
from .sync import Request, begin_sync, must_check_scores, start_run

BACKFILL, SYNC = PURPOSE, "sync"
# Enough for many workers, and few enough that hardly any time goes into beginning one.
WINDOWS = 256
WINDOW_US_MIN, WINDOW_US_MAX = 15 * MINUTE_US, 6 * HOUR_US


class PlanRequest(msgspec.Struct):
    """What a plan was asked for, and where the ledger stood: the last line before it.

    `spans` says by source what is read; every part takes its range out of it.
    """

    from_us: int | None
    to_us: int | None
    full: bool
    only_pending: bool
    spans: dict[str, Range]
    after_entry_id: int

    @property
    def is_whole(self) -> bool:
        """As Request.is_whole."""
        return self.as_sync().is_whole

    def as_sync(self) -> Request:
        """The same, as a sync is asked for."""
        return Request(None, self.from_us, self.to_us, self.full, self.only_pending)

    @property
    def oldest_us(self) -> int:
        """Where the earliest of the ranges begins."""
        return min(span.from_us for span in self.spans.values())


def request_of(plan: Plan) -> PlanRequest:
    """What a plan was asked for."""
    return msgspec.json.decode(plan.request, type=PlanRequest)


def run_of(stations: Stations, plan: Plan, part: Part | None = None) -> RunRef:
    """The run that a plan is, for a part of it or for all."""
    staged_by = part.staged_by if part is not None else ""
    return RunRef(plan.plan_id, plan.made_at_us, stations.config.decision_digest, staged_by)


def plan_backfill(stations: Stations, from_us: int | None, to_us: int | None) -> Plan:
    """Plan a backfill (flows/backfill.py), or join the one that goes on; it is the workers' to do.

    Raises ConfigError if another range is being filled.
    """
    wished = PlanRequest(from_us, to_us, False, False, {}, 0)
    if (going := _going_on(stations, BACKFILL, wished)) is not None:
        return going
    run = start_run(stations, BACKFILL)
    start_us = from_us if from_us is not None else run.now_us - STRIPE_AGE_MAX_US
    for project in stations.projects:
        span = range_of(start_us, to_us or run.now_us, run.now_us, stations.config.settle_us)
        span = replace(span, to_us=max(start_us, min(span.to_us, span.settled_us)))
        wished.spans[project.source_key] = span
        chosen = choose_generation(stations, project)
        if marks_by_score(stations, chosen):
            look_at_scores(stations, project, run, span)
    return _put(stations, run, BACKFILL, wished, start_us, to_us, PartCounts())


def plan_sync(stations: Stations, request: Request, asked: Asked | None = None) -> Plan:
    """Plan a sync (flows/sync.py), or join the one that goes on; it is the workers' to do.

    Raises ConfigError if a sync of another kind goes on, and whatever begin_sync does.
    """
    wished = PlanRequest(request.from_us, request.to_us, request.full, request.only_pending, {}, 0)
    if (going := _going_on(stations, SYNC, wished)) is not None:
        return going
    run, reported, spans, chosen = begin_sync(stations, request, asked)
    wished.spans.update(spans)
    for project in stations.projects:
        key = project.source_key
        if must_check_scores(stations, project, request, spans[key], chosen[key]):
            look_at_scores(stations, project, run, spans[key])
    return _put(stations, run, SYNC, wished, wished.oldest_us, request.to_us, PartCounts(reported=reported))


def _going_on(stations: Stations, kind: str, wished: PlanRequest) -> Plan | None:
    """The plan of this kind that goes on. Two at once would read the same traces twice."""
    plan = next((plan for plan in open_plans(stations.ledger) if plan.kind == kind), None)
    if plan is None:
        return None
    going = request_of(plan)
    if going.as_sync() != wished.as_sync():
        raise ConfigError(
            f"workers are at another {kind}, which began at {format_time(plan.made_at_us)}; wait until it is done, or "
            f"end it with `tallymark plans --cancel {plan.plan_id}`."
        )
    return plan


def _put(
    stations: Stations,
    run: RunRef,
    kind: str,
    request: PlanRequest,
    from_us: int,
    to_us: int | None,
    counts: PartCounts,
) -> Plan:
    (newest,) = stations.ledger.query("newest_entry")
    request.after_entry_id = newest["entry_id"]
    text = msgspec.json.encode(request).decode()
    card = stations.config.rate_card.digest
    plan = Plan(run.run_id, kind, READ, from_us, to_us, run.now_us, run.now_us, card, text, counts.text())
    put_plan(stations.ledger, plan, list(_windows(stations, plan, request)))
    return plan


def _windows(stations: Stations, plan: Plan, request: PlanRequest) -> Iterator[Part]:
    cuts = ((project, window) for project in stations.projects for window in _cut(project, request))
    for number, (project, (from_us, to_us)) in enumerate(cuts):
        yield Part(plan.plan_id, READ, number, project.source_key, from_us, to_us)


def _cut(project: Project, request: PlanRequest) -> list[tuple[int, int]]:
    """The windows of a source's range: what is settled in about as many as WINDOWS, and the rest in one."""
    span = request.spans[project.source_key]
    return windows_of(span)


def windows_of(span: Range) -> list[tuple[int, int]]:
    """Windows (from, to) that cover a range without a gap, in order; the last reaches into the future if it does."""
    end_us = min(span.to_us, span.settled_us)
    width_us = max(WINDOW_US_MIN, min(WINDOW_US_MAX, -(-(end_us - span.from_us) // WINDOWS)))
    edges = [*range(span.from_us, end_us, width_us), end_us]
    rest = [(max(end_us, span.from_us), span.to_us)] if span.to_us > max(end_us, span.from_us) else []
    return [*pairwise(edges), *rest] if end_us > span.from_us else rest
