"""What a worker does of a plan: read a window, send what is open, mark a batch. Each may be done twice, or half."""

from __future__ import annotations

from dataclasses import replace

from ..errors import ConfigError
from ..ledger.plans import READ, SEND, Part, Plan
from .collect import remember_projects
from .mark import mark
from .plan_counts import PartCounts, collected_counts, marked_counts, sent_counts
from .planning import request_of, run_of
from .progress import Progress
from .read import choose_known, collect_range, read_in_its_mode, style_of
from .reading import Chosen, Collected
from .send import send_open
from .stations import Project, Stations
from .sync import reading_of


def do_part(stations: Stations, plan: Plan, part: Part, progress: Progress) -> PartCounts:
    """Do a part; what it counted.

    Raises ConfigError if the worker's settings are not those of the plan, and whatever reading or sending does.
    """
    require_same_card(stations, plan)
    if part.stage == READ:
        return _read(stations, plan, part, progress)
    if part.stage == SEND:
        return _send(stations, progress)
    return _mark(stations, part, progress)


def require_same_card(stations: Stations, plan: Plan) -> None:
    """Raise ConfigError if this worker would rate otherwise than the others."""
    if stations.config.rate_card.digest != plan.card_digest:
        raise ConfigError(
            f"this worker's rate card ({stations.config.rate_card.digest}) is not the plan's ({plan.card_digest}); "
            "give all workers the same settings, and start the run again."
        )


def project_of(stations: Stations, source_key: str) -> Project:
    """The project that a source key names. Raises ConfigError if this worker has no keys for it."""
    for project in stations.projects:
        if project.source_key == source_key:
            return project
    raise ConfigError("this worker has no keys for a project of the plan; give all workers the same settings.")


def _read(stations: Stations, plan: Plan, part: Part, progress: Progress) -> PartCounts:
    project, collected = project_of(stations, part.source_key), Collected()

    def read(chosen: Chosen) -> None:
        request, run = request_of(plan), run_of(stations, plan, part)
        span = replace(request.spans[part.source_key], from_us=part.from_us or 0, to_us=part.to_us or 0)
        reading = reading_of(
            stations, project, chosen, run, request.only_pending, collected=collected, progress=progress
        )
        collect_range(reading, span, None)

    read_in_its_mode(stations, project, choose_known(stations, project), read)
    remember_projects(stations.ledger, project.source_key, collected.project_ids)
    return collected_counts(collected)


def _send(stations: Stations, progress: Progress) -> PartCounts:
    lateness = stations.config.lateness
    return sent_counts(send_open(stations.ledger, stations.meter, stations.clock, progress, lateness))


def _mark(stations: Stations, part: Part, progress: Progress) -> PartCounts:
    project, ledger = project_of(stations, part.source_key), stations.ledger
    style = style_of(stations, choose_known(stations, project))
    project_id = ledger.fact(f"project {part.source_key}") or ""
    batch = (part.after_trace_id, part.through_trace_id)
    return marked_counts(mark(ledger, project.marker, project_id, style, stations.clock, progress, *batch))
