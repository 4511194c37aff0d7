"""Meter events: GET /meter-events, GET /meter-events/{identifier}."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from ...flows.meter_events import CoveredTrace, MeterEventLine, WantedMeterEvents, meter_events, one_meter_event
from ...flows.paging import ROWS_DEFAULT, Listing
from ...flows.ranges import moment_named
from ..service import TheService
from .answers import Attempt, Decision
from .common import Cursor, From, Rows, To, reads

InState = Annotated[
    str,
    QueryParameter(
        name="state",
        description="pending, sending, streamed, accepted, rejected, in_doubt, held, cancelling, cancelled or carried.",
    ),
]


class MeterEvent(MeterEventLine, kw_only=True):
    """A meter event with every send and its answer, and the first traces of its `trace_count`.

    `sent_as` is the identifier that Stripe has, `payload` what it was sent; `bucket_of_trace` names project and trace
    where buckets are single traces.
    """

    sent_as: str
    bucket_of_trace: str
    payload: dict[str, str]
    answer: str | None
    next_attempt_at: str | None
    run_id: str
    sends: list[Attempt]
    decisions: list[Decision]
    trace_count: int
    traces: list[CoveredTrace]


def wanted_meter_events(
    in_state: InState = "",
    customer: FromQuery[str] = "",
    meter: FromQuery[str] = "",
    from_: From = None,
    to: To = None,
) -> WantedMeterEvents:
    """What the parameters ask for. Raises ConfigError."""
    return WantedMeterEvents(in_state, customer.strip(), meter.strip(), moment_named(from_), moment_named(to))


WANTED = {"wanted": Provide(wanted_meter_events, sync_to_thread=False)}
TheWanted = NamedDependency[WantedMeterEvents]


@reads("/meter-events", tags=["meter events"], dependencies=WANTED)
def get_meter_events(
    service: TheService, wanted: TheWanted, limit: Rows = ROWS_DEFAULT, cursor: Cursor = None
) -> Listing[MeterEventLine]:
    """The meter events that meet everything that is asked, the newest usage first."""
    with service.reading() as ledger:
        return meter_events(ledger, wanted, limit, cursor)


@reads("/meter-events/{identifier:str}", tags=["meter events"])
def get_meter_event(service: TheService, identifier: FromPath[str]) -> MeterEvent:
    """One meter event: its bucket and carry, what was sent, each answer, its traces, and what was decided about it."""
    with service.reading() as ledger:
        return msgspec.convert(one_meter_event(ledger, identifier), MeterEvent)


HANDLERS = [get_meter_events, get_meter_event]
