"""Reconciliations: GET /reconciliations, /reconciliations/{run_id}, …/days, and …/rows behind one of the days."""

from __future__ import annotations

from typing import Annotated

from litestar.params import FromPath, FromQuery, QueryParameter

from ...core.text import without_nul
from ...flows.paging import ROWS_DEFAULT, Listing
from ...flows.reconciliation import Reconciliation
from ...flows.reconciliations import (
    DayLine,
    DayRows,
    ReconciliationLine,
    compared_page,
    day_rows,
    reconciliation,
    reconciliations,
)
from ..service import TheService
from .common import Cursor, Rows, reads

OfCustomer = Annotated[str | None, QueryParameter(name="customer", description="Only this customer; empty for nobody.")]
Day = Annotated[str, QueryParameter(description="A day in UTC, such as 2026-11-20.")]


@reads("/reconciliations", tags=["reconciliations"])
def get_reconciliations(
    service: TheService, limit: Rows = ROWS_DEFAULT, cursor: Cursor = None
) -> Listing[ReconciliationLine]:
    """Reconciliations that ended, the newest first."""
    with service.reading() as ledger:
        return reconciliations(ledger, limit, cursor)


@reads("/reconciliations/{run_id:str}", tags=["reconciliations"])
def get_reconciliation(service: TheService, run_id: FromPath[str]) -> Reconciliation:
    """The report of one, as `tallymark reconcile --json` printed it."""
    with service.reading() as ledger:
        return reconciliation(ledger, run_id)


@reads("/reconciliations/{run_id:str}/days", tags=["reconciliations"])
def get_compared_days(
    service: TheService,
    run_id: FromPath[str],
    customer: OfCustomer = None,
    limit: Rows = ROWS_DEFAULT,
    cursor: Cursor = None,
) -> Listing[DayLine]:
    """What it found by customer, meter and day, the earliest first."""
    with service.reading() as ledger:
        return compared_page(ledger, run_id, customer, limit, cursor)


@reads("/reconciliations/{run_id:str}/rows", tags=["reconciliations"])
def get_day_rows(
    service: TheService,
    run_id: FromPath[str],
    day: Day,
    meter: FromQuery[str],
    customer: FromQuery[str] = "",
    limit: Rows = ROWS_DEFAULT,
    cursor: Cursor = None,
) -> DayRows:
    """The traces and meter events behind a customer, a meter and a day."""
    with service.reading() as ledger:
        return day_rows(ledger, run_id, without_nul(customer), without_nul(meter), day, limit, cursor)


HANDLERS = [get_reconciliations, get_reconciliation, get_compared_days, get_day_rows]
