"""Meter events: the list with its filters, and one of them with all that is in it."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath
from litestar.response import Stream, Template

from ...core.states import State
from ...flows.meter_events import (
    CoveredTrace,
    MeterEventLine,
    WantedMeterEvents,
    covered_traces,
    meter_events,
    one_meter_event,
)
from ...flows.paging import ROWS_DEFAULT, ROWS_MAX, Listing, every
from ..api.common import Cursor
from ..api.meter_events import WANTED, TheWanted
from ..csv_answers import csv_answer
from ..links import with_query
from ..service import Service, TheCaller, TheService
from ..templating import page

Asked = Request[Any, Any, Any]


@get("/meter-events", sync_to_thread=True, dependencies=WANTED)
def meter_event_list(
    service: TheService, caller: TheCaller, request: Asked, wanted: TheWanted, cursor: Cursor = None
) -> Template:
    """The meter events that meet the form, the newest usage first."""
    with service.reading() as ledger:
        found = meter_events(ledger, wanted, ROWS_DEFAULT, cursor)
    return page(
        "meter_events",
        caller,
        found=found.items,
        asked=request.query_params,
        wanted=wanted,
        states=tuple(State),
        next_address=with_query(request, "/meter-events", cursor=found.next) if found.next else None,
        csv_address=with_query(request, "/meter-events.csv", cursor=None),
    )


@get("/meter-events.csv", sync_to_thread=True, dependencies=WANTED)
def meter_event_file(service: TheService, wanted: TheWanted) -> Stream:
    """The same list, all of it."""
    _page_of(service, wanted, None)  # What cannot be asked is refused before the file begins.
    rows = (msgspec.structs.astuple(one) for one in every(partial(_page_of, service, wanted)))
    return csv_answer("meter-events", MeterEventLine.__struct_fields__, rows)


@get("/meter-events/{identifier:str}", sync_to_thread=True)
def meter_event(service: TheService, caller: TheCaller, identifier: FromPath[str]) -> Template:
    """One meter event."""
    with service.reading() as ledger:
        return page("meter_event", caller, event=one_meter_event(ledger, identifier))


@get("/meter-events/{identifier:str}/traces.csv", sync_to_thread=True)
def covered_file(service: TheService, identifier: FromPath[str]) -> Stream:
    """All traces of one meter event, with their part of it."""
    with service.reading() as ledger:
        name = one_meter_event(ledger, identifier)["identifier"]
    rows = (msgspec.structs.astuple(one) for one in every(partial(_traces_of, service, name)))
    return csv_answer("meter-event-traces", CoveredTrace.__struct_fields__, rows)


def _page_of(service: Service, wanted: WantedMeterEvents, cursor: str | None) -> Listing[MeterEventLine]:
    with service.reading() as ledger:
        return meter_events(ledger, wanted, ROWS_MAX, cursor)


def _traces_of(service: Service, identifier: str, cursor: str | None) -> Listing[CoveredTrace]:
    with service.reading() as ledger:
        return covered_traces(ledger, identifier, ROWS_MAX, cursor)


HANDLERS = [meter_event_list, meter_event_file, meter_event, covered_file]
