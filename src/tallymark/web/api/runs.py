"""Runs and jobs: GET and POST /runs, GET /runs/{run_id}, GET /jobs."""

from __future__ import annotations

from typing import Annotated

from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from ...flows.paging import ROWS_DEFAULT, Listing
from ...flows.runs import JobLine, Run, RunDetails, RunWish, ask_for_run, list_jobs, list_runs, one_run
from ..service import TheCaller, TheService
from .common import reads, writes
