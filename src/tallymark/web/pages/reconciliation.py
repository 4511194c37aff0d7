"""Reconciliation: the reports, one of them by customer and day, and the rows behind a day."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream, Template

from ...core.balance import Cause
from ...core.credits import format_micros, parse_micros
from ...core.text import without_nul
from ...flows.paging import ROWS_DEFAULT
from ...flows.reconciliation import Line
from ...flows.reconciliations import (
    DayLine,
    DayTrace,
    ReconciliationLine,
    compared,
    day_rows,
    differs,
    reconciliation,
    reconciliations,
)
from ..api.common import Cursor
from ..csv_answers import csv_answer
from ..links import with_query
from ..service import TheCaller, TheService
from ..templating import page

Asked = Request[Any, Any, Any]
OfCustomer = Annotated[str | None, QueryParameter(name="customer")]
DAYS_SHOWN = 200
COLUMNS = ("day", "customer", "meter", "langfuse", "entries", "accepted", "stripe", *Cause)


@get("/reconciliation", sync_to_thread=True)
def report_list(service: TheService, caller: TheCaller, request: Asked, cursor: Cursor = None) -> Template:
    """Reconciliations that ended, the newest first."""
    with service.reading() as ledger:
        found = reconciliations(ledger, ROWS_DEFAULT, cursor)
    return page(
        "reconciliations",
        caller,
        found=found.items,
        next_address=with_query(request, "/reconciliation", cursor=found.next) if found.next else None,
    )


@get("/reconciliation.csv", sync_to_thread=True)
def report_list_file(service: TheService) -> Stream:
    """The same as a file, the last thousand."""
    with service.reading() as ledger:
        found = reconciliations(ledger, 1000).items
    columns = ("run_id", "started_at", "finished_at", "from", "to", "by", "explained", "langfuse", "entries", "stripe")
    return csv_answer("reconciliations", columns, map(_listed, found))


def _listed(line: ReconciliationLine) -> tuple[Any, ...]:
    *head, total = msgspec.structs.astuple(line)
    return (*head, total.langfuse, total.entries, total.stripe)


@get("/reconciliation/{run_id:str}", sync_to_thread=True)
def report_page(
    service: TheService, caller: TheCaller, request: Asked, run_id: FromPath[str], customer: OfCustomer = None
) -> Template:
    """One report: the way from Langfuse to Stripe, causes, customers; days of one customer, or those that differ."""
    with service.reading() as ledger:
        report = reconciliation(ledger, run_id)
        days = compared(ledger, run_id, customer)
    shown = [day for day in days if customer is not None or differs(day)]
    path = f"/reconciliation/{run_id}"
    return page(
        "reconciliation",
        caller,
        report=report,
        customer=customer,
        days=shown[:DAYS_SHOWN],
        left_out=max(0, len(shown) - DAYS_SHOWN),
        kept=len(days),
        total=_sum(days),
        all_address=path,
        csv_address=with_query(request, f"{path}/days.csv"),
    )


def _sum(days: list[DayLine]) -> Line:
    """Days as one line."""

    def added(texts: list[str]) -> str:
        return format_micros(sum(map(parse_micros, texts)))

    by_cause = {cause: [day.differences[cause] for day in days if cause in day.differences] for cause in Cause}
    return Line(
        "",
        "",
        added([day.langfuse for day in days]),
        added([day.entries for day in days]),
        added([day.accepted for day in days]),
        added([day.stripe for day in days if day.stripe is not None]),
        {str(cause): added(texts) for cause, texts in by_cause.items() if texts},
    )


@get("/reconciliation/{run_id:str}/days.csv", sync_to_thread=True)
def days_file(service: TheService, run_id: FromPath[str], customer: OfCustomer = None) -> Stream:
    """Every day of the report, or of a customer, with a column for each cause."""
    with service.reading() as ledger:
        reconciliation(ledger, run_id)
        days = compared(ledger, run_id, customer)
    return csv_answer("reconciliation", COLUMNS, map(_cells, days))


def _cells(day: DayLine) -> list[str | None]:
    *cells, differences = msgspec.structs.astuple(day)
    return [*cells, *(differences.get(cause, "0.000000") for cause in Cause)]


@get("/reconciliation/{run_id:str}/rows", sync_to_thread=True)
def rows_page(
    service: TheService,
    caller: TheCaller,
    request: Asked,
    run_id: FromPath[str],
    day: FromQuery[str],
    meter: FromQuery[str],
    customer: FromQuery[str] = "",
    cursor: Cursor = None,
) -> Template:
    """The traces and meter events behind a customer, a meter and a day, and whether they come to what was found."""
    with service.reading() as ledger:
        rows = day_rows(ledger, run_id, without_nul(customer), without_nul(meter), day, ROWS_DEFAULT, cursor)
    path = f"/reconciliation/{run_id}/rows"
    return page(
        "reconciliation_rows",
        caller,
        rows=rows,
        agrees=rows.entries == rows.total.entries,
        next_address=with_query(request, path, cursor=rows.next) if rows.next else None,
        csv_address=with_query(request, f"{path}.csv", cursor=None),
    )


@get("/reconciliation/{run_id:str}/rows.csv", sync_to_thread=True)
def rows_file(
    service: TheService,
    run_id: FromPath[str],
    day: FromQuery[str],
    meter: FromQuery[str],
    customer: FromQuery[str] = "",
) -> Stream:
    """All traces behind them."""
    found: list[DayTrace] = []
    cursor = None
    with service.reading() as ledger:
        while True:
            rows = day_rows(ledger, run_id, without_nul(customer), without_nul(meter), day, 1000, cursor)
            found += rows.traces
            if (cursor := rows.next) is None:
                break
    return csv_answer("reconciliation-rows", DayTrace.__struct_fields__, map(msgspec.structs.astuple, found))


HANDLERS = [report_list, report_list_file, report_page, days_file, rows_page, rows_file]
