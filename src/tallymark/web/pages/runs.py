"""Runs: the list, one of them with its progress, and the form that asks for one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody
from litestar.response import Redirect, Stream, Template

from ...errors import ConfigError
from ...flows.paging import ROWS_DEFAULT, ROWS_MAX, Listing, every
from ...flows.runs import Run, RunWish, ask_for_run, asker, list_jobs, list_runs, one_run, parse_wish
from ..access import Caller
from ..csv_answers import csv_answer
from ..service import Service, TheCaller, TheService
from ..templating import page

CSV_COLUMNS = (
    "run_id",
    "kind",
    "state",
    "dry_run",
    "asked_by",
    "asked_at",
    "started_at",
    "finished_at",
    "fetched",
    "processed",
    "held",
    "failed",
    "credits",
    "accepted",
    "problem",
)


@dataclass
class RunForm:
    """The form."""

    kind: str = "sync"
    trace_id: str = ""
    from_day: str = ""
    to_day: str = ""
    dry_run: str = ""

    def wish(self) -> RunWish:
        """What it asks for; fields that belong to another kind are left out. Raises ConfigError."""
        ranged = self.kind in ("range", "reconcile")
        return parse_wish(
            kind=self.kind,
            trace_id=self.trace_id.strip() or None if self.kind == "trace" else None,
            from_=_midnight(self.from_day) if ranged else None,
            to=_midnight(self.to_day) if ranged else None,
            dry_run=bool(self.dry_run) and self.kind != "reconcile",
        )


@get("/runs", sync_to_thread=True)
def runs(service: TheService, caller: TheCaller, cursor: FromQuery[str | None] = None) -> Template:
    """The newest runs, and the form for one more."""
    return _list(service, caller, cursor)


@get("/runs.csv", sync_to_thread=True)
def runs_csv(service: TheService) -> Stream:
    """All runs as a file."""
    return csv_answer("runs", CSV_COLUMNS, (_cells(run) for run in every(partial(_page_of, service))))


@post("/runs", sync_to_thread=True)
def ask_run(service: TheService, caller: TheCaller, data: URLEncodedBody[RunForm]) -> Response[Any]:
    """Ask for a run, and see it."""
    try:
        run_id = ask_for_run(service.config, data.wish(), caller.name, service.clock.now_us())
    except ConfigError as error:
        return _list(service, caller, None, form=data, refused=str(error), status=422)
    service.wake()
    return Redirect(f"/runs/{run_id}", status_code=303)


@get("/runs/{run_id:str}", sync_to_thread=True)
def run(service: TheService, caller: TheCaller, run_id: FromPath[str]) -> Template:
    """One run."""
    with service.reading() as ledger:
        found = one_run(ledger, run_id, service.clock.now_us())
    return page("run", caller, run=found, asker=asker)


def _list(
    service: Service,
    caller: Caller,
    cursor: str | None,
    form: RunForm | None = None,
    refused: str = "",
    status: int = 200,
) -> Template:
    now_us = service.clock.now_us()
    with service.reading() as ledger:
        found = list_runs(ledger, now_us, ROWS_DEFAULT, cursor)
        jobs = list_jobs(ledger, service.config, now_us)
    form = form or RunForm()
    return page(
        "runs", caller, status=status, runs=found, jobs=jobs, form=form, refused=refused, asker=asker, cursor=cursor
    )


def _page_of(service: Service, cursor: str | None) -> Listing[Run]:
    with service.reading() as ledger:
        return list_runs(ledger, service.clock.now_us(), ROWS_MAX, cursor)


def _midnight(day: str) -> str | None:
    return f"{day}T00:00:00Z" if day else None


def _cells(run: Run) -> list[Any]:
    counts = run.counts
    values = {"asked_by": asker(run), "dry_run": "yes" if run.dry_run else "no"}
    return [
        values.get(name, getattr(run, name, getattr(counts, name, "") if counts is not None else ""))
        for name in CSV_COLUMNS
    ]


HANDLERS = [runs, runs_csv, ask_run, run]
