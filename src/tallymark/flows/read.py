"""Read a project through the generation that its server offers; notice when that changes, and carry on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from ..clock import SystemClock
from ..core.clock import DAY_US
from ..errors import ConfigError, NotFound, WrongMode
from ..ledger.ledger import Coverage
from ..ledger.rows import RunRef
from ..ledger.staging import owe_lost_score_marks
from ..source.observations import ObservationsSource
from ..source.probe import choose, is_v3, probe, server_version
from ..source.traces import TracesSource
from .collect import collect, collect_page, revisit_held
from .decide import MARK_VISIBLE_AFTER_US
from .observe import adopt_scores, collect_observations, collect_traces, revisit_held_observations
from .reader import ObservationsApart, TracesApart
from .reading import Chosen, Range, Reading
from .stations import Project, Stations

log = logging.getLogger("tallymark")


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


def read_in_its_mode(stations: Stations, project: Project, chosen: Chosen, read: Callable[[Chosen], None]) -> Chosen:
    """Read; a server whose mode changes on the way is read on through its other generation. Which one it was."""
    try:
        read(chosen)
    except WrongMode:
        again = choose_generation(stations, project, fresh=True)
        if again.generation == chosen.generation:
            raise
        log.warning("%s changed its mode: reading on through %s", project.client.base_url, again.generation)
        chosen = replace(again, reason=f"the mode changed during the run: {again.reason}")
        read(chosen)
    return chosen


def style_of(stations: Stations, chosen: Chosen) -> str:
    """How traces are marked: "tags" or "score". Raises ConfigError if the server cannot be marked as set."""
    wanted = stations.config.marks
    if wanted == "tags" and chosen.generation == "observations":
        raise ConfigError(
            f"BILLING_MARKS is tags, but Langfuse {chosen.version} in this mode takes scores only; "
            "set it to auto or score."
        )
    return wanted if wanted != "auto" else "tags" if chosen.generation == "traces" else "score"


def marks_by_score(stations: Stations, chosen: Chosen) -> bool:
    """Whether the server may have marked traces by score, which only asking for scores tells."""
    return chosen.generation == "observations" or stations.config.marks == "score"


def collect_span(reading: Reading, span: Range, coverage: Coverage | None, *, check_scores: bool) -> None:
    """Read a range and decide its traces. `check_scores`: look first which traces the server has marked by score.

    Raises WrongMode if the server's mode changed; what was recorded stays, and reading again is safe.
    """
    if check_scores:
        look_at_scores(reading.stations, reading.project, reading.into.run, span)
    collect_range(reading, span, coverage)
    revisit(reading)


def collect_range(reading: Reading, span: Range, coverage: Coverage | None) -> None:
    """Read a range and decide its traces, and nothing else. Raises WrongMode as collect_span does."""
    if reading.chosen.generation == "observations":
        collect_observations(observations_of(reading.stations, reading.project), reading.into, span, coverage)
    else:
        collect(traces_of(reading.stations, reading.project), reading.into, span, coverage)


def revisit(reading: Reading) -> None:
    """Decide held traces of a project again, however old, that were decided under other settings."""
    stations, project = reading.stations, reading.project
    for project_id in project_ids_of(reading):
        if reading.chosen.generation == "observations":
            revisit_held_observations(observations_of(stations, project), reading.into, project_id)
        else:
            revisit_held(traces_of(stations, project), reading.into, project_id)


def project_ids_of(reading: Reading) -> list[str]:
    """The project ids that a key reads: those met now, and the one met before."""
    known_id = reading.stations.ledger.fact(f"project {reading.project.source_key}")
    return sorted({*reading.into.collected.project_ids, *([known_id] if known_id else [])})


def collect_trace(reading: Reading, trace_id: str) -> None:
    """Read and decide one trace."""
    if reading.chosen.generation == "observations":
        collect_traces(observations_of(reading.stations, reading.project), reading.into, [trace_id])
    else:
        source = traces_of(reading.stations, reading.project)
        collect_page(source.read_many([trace_id], 0), source, reading.into)


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
