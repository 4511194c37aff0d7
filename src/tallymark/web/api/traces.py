"""Traces: GET /traces, GET /traces/{trace_id}."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from ...flows.explain import explain
from ...flows.held import policy
from ...flows.paging import ROWS_DEFAULT, Listing
from ...flows.ranges import moment_named
from ...flows.traces import TraceLine, Wanted, traces
from ..service import TheService
from .answers import Explanation
from .common import Cursor, From, Rows, To, reads

Search = Annotated[
    str, QueryParameter(description="A customer, a user id, a trace id or its beginning, a trace's name.")
]
Meaning = Annotated[
    str, QueryParameter(description="What `q` is: customer, user, trace or name; the first that is found.")
]
Outcome = Annotated[str, QueryParameter(description="billed, skipped or held.")]


def wanted_traces(
    q: Search = "",
    by: Meaning = "",
    outcome: Outcome = "",
    reason: FromQuery[str] = "",
    customer: FromQuery[str] = "",
    project: FromQuery[str] = "",
    from_: From = None,
    to: To = None,
) -> Wanted:
    """What the parameters ask for. Raises ConfigError."""
    from_us, to_us = moment_named(from_), moment_named(to)
    return Wanted(q.strip(), by, outcome, reason, customer.strip(), project.strip(), from_us, to_us)


WANTED = {"wanted": Provide(wanted_traces, sync_to_thread=False)}
TheWanted = NamedDependency[Wanted]


@reads("/traces", tags=["traces"], dependencies=WANTED)
def get_traces(
    service: TheService, wanted: TheWanted, limit: Rows = ROWS_DEFAULT, cursor: Cursor = None
) -> Listing[TraceLine]:
    """The traces that meet everything that is asked, the newest first."""
    with service.reading() as ledger:
        return traces(ledger, wanted, limit, cursor)


@reads("/traces/{trace_id:path}", tags=["traces"])
def get_trace(service: TheService, trace_id: FromPath[str]) -> Explanation:
    """How a trace became credits: usage, formula, entries, meter events with every answer, marks and decisions."""
    with service.reading() as ledger:
        found = {**explain(ledger, trace_id.removeprefix("/")), "policy": policy(service.config)}
        return msgspec.convert(found, Explanation)


HANDLERS = [get_traces, get_trace]
