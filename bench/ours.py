"""The jobs that are tallymark's: a sync; its collecting, sending and marking alone. Settings from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable

from tallymark import config
from tallymark.flows.progress import Progress, quiet
from tallymark.flows.read import choose_generation, collect_span, style_of
from tallymark.flows.reading import Reading, Recording, range_of
from tallymark.flows.send import send as send_flow
from tallymark.flows.stations import Stations, open_stations
from tallymark.flows.sync import coverage_after, decider_of, mark_project, purpose_of, start_run
from tallymark.flows.sync import sync as sync_flow

from .child import Counts
from .profile import looking
from .timeline import Timeline


def sync() -> Callable[[], Counts]:
    """One `tallymark.sync`, looked at: where its time goes, and how much memory it has."""
    return _sync


def _sync() -> Counts:
    timeline = Timeline()
    with looking() as seen:
        summary = sync_flow(config.load(None, os.environ), progress=timeline)
    return {
        "fetched": summary.fetched,
        "processed": summary.processed,
        "credits_micros": int(summary.credits.replace(".", "")),
        "meter_events": summary.meter_events.accepted,
        "marks": summary.marks.written,
        "requests": summary.requests.langfuse,
        "stripe_requests": summary.requests.stripe,
        "acknowledged_seconds": timeline.last_seconds.get("send", 0.0),
        "timeline": timeline.points,
        "profile": seen,
    }


def collect() -> Callable[[], Counts]:
    """Reading, rating and the ledger, without sending or marking, on a ledger that is opened in the measured time."""
    return _collect


def _collect() -> Counts:
    timeline = Timeline()
    with open_stations(config.load(None, os.environ), dry_run=False) as stations:
        return {**_collect_all(stations, timeline), "timeline": timeline.points}


def _collect_all(stations: Stations, progress: Progress) -> Counts:
    (project,) = stations.projects
    run = start_run(stations, "sync")
    span = range_of(run.now_us - stations.config.lookback_us, None, run.now_us, stations.config.settle_us)
    chosen = choose_generation(stations, project)
    decider = decider_of(stations, run, False, style_of(stations, chosen))
    into = Recording(stations.ledger, decider, run, progress=progress)
    coverage = coverage_after(stations, project, purpose_of(False), span)
    # As a first sync does.
    check_scores = chosen.generation == "observations"
    collect_span(Reading(stations, project, chosen, into), span, coverage, check_scores=check_scores)
    collected = into.collected
    return {
        "traces": collected.read,
        "processed": collected.results["processed"],
        "rows": collected.rows,
        "requests": stations.requests.langfuse,
    }


def send() -> Callable[[], Counts]:
    """Gathering and sending what the ledger owes, through the official SDK."""
    return _send


def _send() -> Counts:
    with open_stations(config.load(None, os.environ), dry_run=False) as stations:
        run = start_run(stations, "sync")
        sent = send_flow(stations.ledger, stations.meter, run, stations.clock, quiet)
        return {"meter_events": sent.answers.total()}


def mark() -> Callable[[], Counts]:
    """Writing the marks that the ledger owes."""
    return _mark


def _mark() -> Counts:
    with open_stations(config.load(None, os.environ), dry_run=False) as stations:
        (project,) = stations.projects
        marked = mark_project(stations, project, quiet)
        return {"marks": marked.written, "requests": stations.requests.langfuse}
