"""Read a project through the generation that its server offers; notice when that changes, and carry on."""

from __future__ import annotations

from dataclasses import dataclass

from ..clock import SystemClock
from ..core.clock import DAY_US
from ..errors import ConfigError, NotFound, WrongMode
from ..ledger.ledger import Coverage
from ..ledger.rows import RunRef
from ..ledger.staging import owe_lost_score_marks
from ..source.observations import ObservationsSource
from ..source.probe import choose, is_v3, probe, server_version
from ..source.traces import TracesSource
from .collect import Collected, Range, collect, collect_page, revisit_held
from .decide import MARK_VISIBLE_AFTER_US, Decider
from .observe import adopt_scores, collect_observations, collect_traces, revisit_held_observations
from .progress import Progress
from .reader import ObservationsApart, TracesApart
from .stations import Project, Stations


@dataclass(frozen=True, slots=True)
class Chosen:
    """The generation that a project is read through, why, and the server's version."""

    generation: str
    reason: str
    version: str


def choose_generation(stations: Stations, project: Project, *, fresh: bool = False) -> Chosen:
    """Which generation to read through. Asked anew when the version or the setting changed, or when `fresh`.

    Raises ConfigError if the server offers none, or not the one that BILLING_SOURCE wants.
    """
    version = server_version(project.client)
    wanted = stations.config.api_source
    known = stations.ledger.fact(f"generation {project.source_key}") or ""
    if not fresh and known.startswith(f"{version}|{wanted}|"):
        return choose_known(stations, project)
    if is_v3(version) and wanted == "auto" and not fresh:
        generation, reason = "traces", "Langfuse 3 lists traces"
    else:
        generation, reason = choose(probe(project.client, version, stations.clock.now_us()), wanted)
    stations.ledger.put_fact(f"generation {project.source_key}", f"{version}|{wanted}|{generation}|{reason}")
    return Chosen(generation, reason, version)


def choose_known(stations: Stations, project: Project) -> Chosen:
    """The generation that was chosen last, without a request."""
    known = stations.ledger.fact(f"generation {project.source_key}")
    if known is None:
        return choose_generation(stations, project)
    version, _, generation, reason = known.split("|", 3)
    return Chosen(generation, reason, version)


def style_of(stations: Stations, chosen: Chosen) -> str:
    """How traces are marked: "tags" or "score". Raises ConfigError if the server cannot be marked as set."""
    wanted = stations.config.marks
    if wanted == "tags" and chosen.generation == "observations":
        raise ConfigError(
            f"BILLING_MARKS is tags, but Langfuse {chosen.version} in this mode takes scores only; "
            "set it to auto or score."
        )
    return wanted if wanted != "auto" else "tags" if chosen.generation == "traces" else "score"


def collect_span(
    stations: Stations,
    project: Project,
    chosen: Chosen,
    decider: Decider,
    run: RunRef,
    span: Range,
    coverage: Coverage | None,
    *,
    check_scores: bool,
    progress: Progress,
    collected: Collected,
) -> None:
    """Read a range and decide its traces. `check_scores`: look first which traces the server has marked by score.

    Raises WrongMode if the server's mode changed; what was recorded stays, and reading again is safe.
    """
    if check_scores:
        look_at_scores(stations, project, run, span)
    collect_range(stations, project, chosen, decider, run, span, coverage, progress, collected)
    revisit(stations, project, chosen, decider, run, collected)


def collect_range(
    stations: Stations,
    project: Project,
    chosen: Chosen,
    decider: Decider,
    run: RunRef,
    span: Range,
    coverage: Coverage | None,
    progress: Progress,
    collected: Collected,
) -> None:
    """Read a range and decide its traces, and nothing else. Raises WrongMode as collect_span does."""
    ledger = stations.ledger
    if chosen.generation == "observations":
        source = observations_of(stations, project)
        collect_observations(source, ledger, decider, run, span, coverage, progress, collected)
    else:
        collect(traces_of(stations, project), ledger, decider, run, span, coverage, progress, collected)


def revisit(
    stations: Stations, project: Project, chosen: Chosen, decider: Decider, run: RunRef, collected: Collected
) -> None:
    """Decide held traces of a project again, however old, that were decided under other settings."""
    ledger = stations.ledger
    for project_id in project_ids_of(stations, project, collected):
        if chosen.generation == "observations":
            source = observations_of(stations, project)
            revisit_held_observations(source, ledger, decider, run, project_id, collected)
        else:
            revisit_held(traces_of(stations, project), ledger, decider, run, project_id, collected)


def project_ids_of(stations: Stations, project: Project, collected: Collected) -> list[str]:
    """The project ids that a key reads: those met now, and the one met before."""
    known_id = stations.ledger.fact(f"project {project.source_key}")
    return sorted({*collected.project_ids, *([known_id] if known_id else [])})


def collect_trace(
    stations: Stations,
    project: Project,
    chosen: Chosen,
    decider: Decider,
    run: RunRef,
    trace_id: str,
    collected: Collected,
) -> None:
    """Read and decide one trace."""
    if chosen.generation == "observations":
        collect_traces(observations_of(stations, project), stations.ledger, decider, run, [trace_id], collected)
    else:
        source = traces_of(stations, project)
        collect_page(source.read_many([trace_id], 0), source, stations.ledger, decider, run, collected)


def traces_of(stations: Stations, project: Project) -> TracesSource:
    """The trace list of a project."""
    kind = TracesApart if _may_read_apart(stations) else TracesSource
    return kind(project.client, stations.config.window_us_max)


def observations_of(stations: Stations, project: Project) -> ObservationsSource:
    """The observations of a project."""
    kind = ObservationsApart if _may_read_apart(stations) else ObservationsSource
    return kind(project.client, stations.config.window_us_max)


def _may_read_apart(stations: Stations) -> bool:
    """Not under a budget, which one client has to keep, nor on another clock than the machine's."""
    return isinstance(stations.clock, SystemClock) and stations.config.langfuse_requests_per_minute is None


def look_at_scores(stations: Stations, project: Project, run: RunRef, span: Range) -> None:
    """Adopt marks by score that this ledger does not know, and owe those again that it wrote and the server lost."""
    known_id = stations.ledger.fact(f"project {project.source_key}")
    try:
        # Dated like their traces, some of which began before the range and still reach into it.
        project_ids = adopt_scores(project.client, stations.ledger, run, span.from_us - DAY_US)
    except (NotFound, WrongMode):
        return
    # The project is known by its id even if no score is left in it.
    for project_id in project_ids | ({known_id} if known_id else set()):
        written_before_us = run.now_us - MARK_VISIBLE_AFTER_US
        owe_lost_score_marks(stations.ledger, run, project_id, span.from_us, span.settled_us, written_before_us)
