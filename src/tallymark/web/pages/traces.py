"""Traces: the list with its search, and how one trace became credits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath
from litestar.response import Stream, Template

from ...config import Config
from ...core.types import HELD, SKIPPED
from ...flows.explain import explain
from ...flows.paging import ROWS_DEFAULT
from ...flows.stations import source_key
from ...flows.traces import MEANINGS, TraceLine, Wanted, all_traces, traces
from ...ledger import Ledger
from ..api.common import Cursor
from ..api.traces import WANTED, TheWanted
from ..csv_answers import csv_answer
from ..links import quoted, with_query
from ..service import Service, TheCaller, TheService
from ..templating import page

Asked = Request[Any, Any, Any]
REASONS = (*HELD[:4], *SKIPPED, "deleted")


@get("/traces", sync_to_thread=True, dependencies=WANTED)
def trace_list(
    service: TheService, caller: TheCaller, request: Asked, wanted: TheWanted, cursor: Cursor = None
) -> Template:
    """The traces that meet the form, the newest first."""
    with service.reading() as ledger:
        found = traces(ledger, wanted, ROWS_DEFAULT, cursor)
    return page(
        "traces",
        caller,
        found=found.items,
        asked=request.query_params,
        wanted=wanted,
        meanings=tuple(MEANINGS),
        reasons=REASONS,
        is_first=cursor is None,
        next_address=with_query(request, "/traces", cursor=found.next) if found.next else None,
        csv_address=with_query(request, "/traces.csv", cursor=None),
    )


@get("/traces.csv", sync_to_thread=True, dependencies=WANTED)
def trace_file(service: TheService, wanted: TheWanted) -> Stream:
    """The same list, all of it."""
    with service.reading() as ledger:
        traces(ledger, wanted, 1)  # What cannot be asked is refused before the file begins.
    return csv_answer("traces", TraceLine.__struct_fields__, _rows(service, wanted))


def _rows(service: Service, wanted: Wanted) -> Iterator[tuple[Any, ...]]:
    with service.reading() as ledger:
        for line in all_traces(ledger, wanted):
            yield msgspec.structs.astuple(line)


@get("/traces/{trace_id:path}", sync_to_thread=True)
def trace_explained(service: TheService, caller: TheCaller, trace_id: FromPath[str]) -> Template:
    """How one trace became credits."""
    name = trace_id.removeprefix("/")
    with service.reading() as ledger:
        projects = [explained(service.config, ledger, each, name) for each in explain(ledger, name)["projects"]]
    return page("trace", caller, trace_id=name, projects=projects)


def explained(config: Config, ledger: Ledger, trace: Mapping[str, Any], trace_id: str) -> dict[str, Any]:
    """The explanation of a trace of one project with its meter events, and where Langfuse shows it."""
    address = in_langfuse(config, ledger, trace["project_id"], trace_id)
    return {**trace, "meter_events": _meter_events(trace), "in_langfuse": address}


def _meter_events(trace: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that cover its entries, each once."""
    found = [entry["meter_event"] for entry in trace["entries"] if entry["meter_event"]]
    return list({event["identifier"]: event for event in found}.values())


def in_langfuse(config: Config, ledger: Ledger, project_id: str, trace_id: str) -> str | None:
    """Where Langfuse shows a trace; None for a project that the settings do not name any more."""
    for project in config.projects:
        base_url = project.base_url.rstrip("/")
        if ledger.fact(f"project {source_key(base_url, project.public_key or '')}") == project_id:
            return f"{base_url}/project/{quoted(project_id)}/traces/{quoted(trace_id)}"
    return None


HANDLERS = [trace_list, trace_file, trace_explained]
