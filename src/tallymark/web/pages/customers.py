"""Customers: who uses what and what that earns, one customer, and usage by day, model or flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream, Template

from ...core.text import without_nul
from ...flows.customer_usage import UsageEvent, customer_usage, usage_event_page
from ...flows.customers import (
    SORTS,
    CustomerLine,
    Wanted,
    all_customers,
    customer_standing,
    customers,
    customers_total,
    newest_meter_events,
)
from ...flows.paging import ROWS_DEFAULT, ROWS_MAX
from ...flows.usage import COLUMNS, KEYS, UsageTotal, on_every_day, usage, usage_by_day, usage_totals
from ..api.common import Cursor
from ..csv_answers import csv_answer
from ..links import with_query
from ..period import BILLING, Period, period_of
from ..service import Service, TheCaller, TheService
from ..templating import page

Asked = Request[Any, Any, Any]
Named = Annotated[str | None, QueryParameter(name="period")]
From = Annotated[str | None, QueryParameter(name="from")]
To = Annotated[str | None, QueryParameter(name="to")]
METER_EVENTS = 20
COMPONENTS = ("ai", "compute", "storage", "other")


def asked_period(
    service: TheService, period: Named = None, from_: From = None, to: To = None, customer: FromQuery[str] = ""
) -> Period:
    """The period of a page, or of a file of one customer. Raises ConfigError."""
    with service.reading() as ledger:
        return period_of(ledger, service.clock.now_us(), period, from_, to, without_nul(customer))


def asked_period_of_customer(
    service: TheService, customer_id: FromPath[str], period: Named = None, from_: From = None, to: To = None
) -> Period:
    """The period of a customer's page; the billing period unless another is asked for. Raises ConfigError."""
    with service.reading() as ledger:
        return period_of(ledger, service.clock.now_us(), period or BILLING, from_, to, _customer(customer_id))


SHOWN = {"shown": Provide(asked_period, sync_to_thread=True)}
SHOWN_OF_CUSTOMER = {"shown": Provide(asked_period_of_customer, sync_to_thread=True)}
TheShown = NamedDependency[Period]


def _customer(path: str) -> str:
    return without_nul(path.removeprefix("/"))


# ---- all customers


@get("/customers", sync_to_thread=True, dependencies=SHOWN)
def customer_list(
    service: TheService,
    caller: TheCaller,
    request: Asked,
    shown: TheShown,
    q: FromQuery[str] = "",
    sort: FromQuery[str] = "revenue",
    order: FromQuery[str] = "",
    cursor: Cursor = None,
) -> Template:
    """Usage, cost, revenue and margin of each customer, against the time before."""
    wanted = Wanted(shown.from_us, shown.to_us, q.strip(), sort, order)
    with service.reading() as ledger:
        found = customers(ledger, wanted, ROWS_DEFAULT, cursor)
        together = customers_total(ledger, wanted)
    return page(
        "customers",
        caller,
        period=shown,
        wanted=wanted,
        found=found.items,
        together=together,
        by="customer",
        before_us=shown.from_us - (shown.to_us - shown.from_us),
        is_first=cursor is None,
        sort_address={name: with_query(request, "/customers", cursor=None, **_turned(wanted, name)) for name in SORTS},
        next_address=with_query(request, "/customers", cursor=found.next) if found.next else None,
        csv_address=with_query(request, "/customers.csv", cursor=None),
    )


def _turned(wanted: Wanted, sort: str) -> dict[str, str | None]:
    """What a click on a heading asks for: its usual order, or the other one where the list is ordered by it."""
    usual = "asc" if sort == "customer" else "desc"
    now = "desc" if wanted.is_descending else "asc"
    other = {"asc": "desc", "desc": "asc"}[usual]
    return {"sort": sort, "order": other if sort == wanted.sort and now == usual else None}


@get("/customers.csv", sync_to_thread=True, dependencies=SHOWN)
def customer_file(
    service: TheService,
    shown: TheShown,
    q: FromQuery[str] = "",
    sort: FromQuery[str] = "revenue",
    order: FromQuery[str] = "",
) -> Stream:
    """The same list, all of it."""
    wanted = Wanted(shown.from_us, shown.to_us, q.strip(), sort, order)
    with service.reading() as ledger:
        rows = all_customers(ledger, wanted)
    return csv_answer("customers", CustomerLine.__struct_fields__, map(msgspec.structs.astuple, rows))


# ---- usage by something else


@get("/usage", sync_to_thread=True, dependencies=SHOWN)
def usage_table(
    service: TheService, caller: TheCaller, request: Asked, shown: TheShown, by: FromQuery[str] = "day"
) -> Template:
    """Usage, cost, revenue and margin by day, model or flow."""
    by = by if by in KEYS else "day"
    with service.reading() as ledger:
        totals = usage_totals(ledger, shown.from_us, shown.to_us, "", by)
    together = UsageTotal()
    for total in totals.values():
        together.add(total)
    rows = [totals[key].row(key) for key in sorted(totals)]
    return page(
        "usage",
        caller,
        period=shown,
        by=by,
        rows=rows,
        chart_rows=[
            (day.key, day.revenue_usd, day.cost_usd, day.margin_usd)
            for day in on_every_day(rows, shown.from_us, shown.to_us)
        ]
        if by == "day"
        else [],
        together=together.row("together"),
        csv_address=with_query(request, "/usage.csv", by=by),
    )


@get("/usage.csv", sync_to_thread=True, dependencies=SHOWN)
def usage_file(
    service: TheService, shown: TheShown, by: FromQuery[str] = "day", customer: FromQuery[str] = ""
) -> Stream:
    """The same as a file, of one customer or all."""
    by = by if by in KEYS else "day"
    with service.reading() as ledger:
        rows = usage(ledger, shown.from_us, shown.to_us, without_nul(customer), by)
    return csv_answer(f"usage-by-{by}", COLUMNS, map(msgspec.structs.astuple, rows))


# ---- one customer


@get("/customers/{customer_id:path}", sync_to_thread=True, dependencies=SHOWN_OF_CUSTOMER)
def customer_page(
    service: TheService, caller: TheCaller, request: Asked, shown: TheShown, customer_id: FromPath[str]
) -> Template:
    """One customer: usage by day, model and component, meter events, carry, and what is held."""
    name, span, now_us = _customer(customer_id), (shown.from_us, shown.to_us), service.clock.now_us()
    asked: dict[str, str | None] = {"customer": name, "period": shown.name or None}
    with service.reading() as ledger:
        days = on_every_day(usage_by_day(ledger, *span, name), *span)
        return page(
            "customer",
            caller,
            period=shown,
            standing=customer_standing(ledger, name, *span, now_us),
            usage=customer_usage(ledger, service.config, name, *span),
            days=days,
            chart_rows=[(day.key, day.credits) for day in days],
            events=newest_meter_events(ledger, name, METER_EVENTS),
            files={
                "days": with_query(request, "/usage.csv", by="day", **asked),
                "models": with_query(request, "/usage.csv", by="model", **asked),
                "traces": with_query(request, "/usage-events.csv", **asked),
            },
        )


@get("/usage-events.csv", sync_to_thread=True, dependencies=SHOWN)
def usage_event_file(service: TheService, shown: TheShown, customer: FromQuery[str] = "") -> Stream:
    """The billed traces of a customer, the newest first."""
    columns = (*(name for name in UsageEvent.__struct_fields__ if name != "components"), *COMPONENTS)
    return csv_answer("billed-traces", columns, _event_rows(service, shown, without_nul(customer)))


def _event_rows(service: Service, shown: Period, customer_id: str) -> Iterator[tuple[Any, ...]]:
    cursor = None
    with service.reading() as ledger:
        while True:
            found = usage_event_page(ledger, customer_id, shown.from_us, shown.to_us, ROWS_MAX, cursor)
            for event in found.items:
                *cells, components = msgspec.structs.astuple(event)
                yield (*cells, *(components.get(name) for name in COMPONENTS))
            if (cursor := found.next) is None:
                return


HANDLERS = [customer_list, customer_file, usage_table, usage_file, usage_event_file, customer_page]
