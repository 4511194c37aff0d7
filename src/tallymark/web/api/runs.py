"""Runs and jobs: GET and POST /runs, GET /runs/{run_id}, GET /jobs."""

from __future__ import annotations

from litestar.params import FromPath, JSONBody

from ...flows.paging import ROWS_DEFAULT, Listing
from ...flows.runs import JobLine, Run, RunDetails, RunWish, ask_for_run, list_jobs, list_runs, one_run
from ..service import TheCaller, TheService
from .common import Cursor, Rows, reads, writes


@reads("/runs", tags=["runs"])
def get_runs(service: TheService, limit: Rows = ROWS_DEFAULT, cursor: Cursor = None) -> Listing[Run]:
    """All runs of the ledger: by hand, of jobs, and those that were asked for; the newest first."""
    with service.reading() as ledger:
        return list_runs(ledger, service.clock.now_us(), limit, cursor)


@reads("/runs/{run_id:str}", tags=["runs"])
def get_run(service: TheService, run_id: FromPath[str]) -> RunDetails:
    """One run: how far it is while it runs, and what it came to."""
    with service.reading() as ledger:
        return one_run(ledger, run_id, service.clock.now_us())


@writes("/runs", tags=["runs"], status_code=202)
def post_run(service: TheService, caller: TheCaller, data: JSONBody[RunWish]) -> RunDetails:
    """Ask for a run. A `tallymark serve` of this ledger begins it at once, or when the run before it has ended."""
    now_us = service.clock.now_us()
    run_id = ask_for_run(service.config, data, caller.name, now_us)
    service.wake()
    with service.reading() as ledger:
        return one_run(ledger, run_id, now_us)


@reads("/jobs", tags=["runs"])
def get_jobs(service: TheService) -> Listing[JobLine]:
    """What the service runs again and again: when, by whom, and how it went."""
    with service.reading() as ledger:
        return Listing(list_jobs(ledger, service.config, service.clock.now_us()), None)


HANDLERS = [get_runs, get_run, post_run, get_jobs]
