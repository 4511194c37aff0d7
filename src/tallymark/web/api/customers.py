"""Customers: GET /customers, /customers/{customer_id}, and for applications …/usage and …/usage-events."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter

from ...core.clock import DAY_US
from ...core.text import without_nul
from ...flows.customer_usage import CustomerUsage, UsageEvent, customer_usage, range_or_period, usage_event_page
from ...flows.customers import CustomerLine, CustomerStanding, Wanted, customer_standing, customers
from ...flows.paging import ROWS_DEFAULT, Listing
from ...flows.ranges import check_range, moment_named
from ..service import TheService
from .common import Cursor, From, Rows, To, reads

DAYS = 30
Beginning = Annotated[str, QueryParameter(description="Only customers whose id begins so.")]
Sort = Annotated[str, QueryParameter(description="customer, traces, credits, cost, revenue, margin or change.")]
Order = Annotated[str, QueryParameter(description="asc or desc; amounts from the largest down unless given.")]
Range = tuple[int, int]


def range_of(service: TheService, from_: From = None, to: To = None) -> Range:
    """The range that the parameters name, 30 days up to the present unless they do. Raises ConfigError."""
    from_us, to_us = moment_named(from_), moment_named(to)
    until_us = to_us if to_us is not None else service.clock.now_us()
    since_us = from_us if from_us is not None else until_us - DAYS * DAY_US
    check_range(since_us, until_us)
    return since_us, until_us


def period_of_customer(service: TheService, customer_id: FromPath[str], from_: From = None, to: To = None) -> Range:
    """The range that the parameters name; without `from` the billing period at its end. Raises ConfigError."""
    from_us, to_us = moment_named(from_), moment_named(to)
    with service.reading() as ledger:
        return range_or_period(ledger, without_nul(customer_id), from_us, to_us, service.clock.now_us())


RANGE = {"span": Provide(range_of, sync_to_thread=False)}
PERIOD = {"span": Provide(period_of_customer, sync_to_thread=True)}
TheRange = NamedDependency[Range]


@reads("/customers", tags=["customers"], dependencies=RANGE)
def get_customers(
    service: TheService,
    span: TheRange,
    q: Beginning = "",
    sort: Sort = "customer",
    order: Order = "",
    limit: Rows = ROWS_DEFAULT,
    cursor: Cursor = None,
) -> Listing[CustomerLine]:
    """Customers with usage in a range (30 days unless it is named), or in the time of the same length before it."""
    with service.reading() as ledger:
        return customers(ledger, Wanted(*span, q, sort, order), limit, cursor)


@reads("/customers/{customer_id:str}", tags=["customers"], dependencies=PERIOD)
def get_customer(service: TheService, span: TheRange, customer_id: FromPath[str]) -> CustomerStanding:
    """How a customer stands: usage of the billing period to date or of a range, balances by meter, and what is held."""
    with service.reading() as ledger:
        return customer_standing(ledger, customer_id, *span, service.clock.now_us())


@reads("/customers/{customer_id:str}/usage", tags=["customers"], dependencies=PERIOD)
def get_customer_usage(service: TheService, span: TheRange, customer_id: FromPath[str]) -> CustomerUsage:
    """What a customer used, by component, model and day, and how fresh that is: the period to date unless named.

    That is the billing period, where Stripe was asked for it, else the calendar month in UTC. A customer whom the
    ledger does not know has used nothing.
    """
    with service.reading() as ledger:
        return customer_usage(ledger, service.config, without_nul(customer_id), *span)


@reads("/customers/{customer_id:str}/usage-events", tags=["customers"], dependencies=PERIOD)
def get_usage_events(
    service: TheService,
    span: TheRange,
    customer_id: FromPath[str],
    limit: Rows = ROWS_DEFAULT,
    cursor: Cursor = None,
) -> Listing[UsageEvent]:
    """The billed traces of a customer, the newest first; the range as of usage."""
    with service.reading() as ledger:
        return usage_event_page(ledger, without_nul(customer_id), *span, limit, cursor)


HANDLERS = [get_customers, get_customer, get_customer_usage, get_usage_events]
