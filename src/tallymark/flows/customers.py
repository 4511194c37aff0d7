"""Customers: what each of them used, what that cost and earned, against the period before; and how one of them stands.

Reads only the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from ..core.clock import format_time
from ..core.credits import format_micros
from ..core.text import without_nul
from ..errors import ConfigError, NotFound
from ..ledger import Ledger
from .paging import Listing, listing, read_cursor
from .usage import UsageTotal, usage_totals

NONE = UsageTotal()


class CustomerLine(msgspec.Struct):
    """A customer's billed traces of a period: credits, what Langfuse says they cost, what the credits cost, and margin.

    `credits_before` are those of the time before the period, of the same length; `change` is what came to it since.
    """

    customer: str
    traces: int
    credits: str
    cost_usd: str
    revenue_usd: str
    margin_usd: str
    credits_before: str
    change: str


class CustomersTotal(msgspec.Struct):
    """How many customers there are, and what they come to together."""

    customers: int
    total: CustomerLine


class MeterBalance(msgspec.Struct):
    """How a customer stands on a meter: what Stripe counts, what is on its way or waits, and the carry, in credits.

    `unsent` is recorded and in no meter event yet; `open` in meter events that are not settled, by their state.
    """

    meter: str
    accepted: str
    unsent: str
    open: dict[str, str]
    carry: str


class HeldOfCustomer(msgspec.Struct):
    """How much of a customer waits for a person, by its kind (trace, meter_event) and why."""

    kind: str
    reason: str
    waiting: int
    credits: str


class BillingPeriod(msgspec.Struct):
    """A billing period, as it was last read of Stripe; it ends before `to`."""

    from_: str = msgspec.field(name="from")
    to: str


class MeterEventLine(msgspec.Struct):
    """A meter event of a customer: `entries` + `carry_before` = `credits`, which are whole, + `carry_after`."""

    identifier: str
    meter: str
    bucket: tuple[str, str]
    entries: str
    carry_before: str
    credits: int
    carry_after: str
    state: str
    reason: str


class CustomerStanding(msgspec.Struct):
    """One customer: usage of a period and the time before it, balances by meter, what is held, the billing period."""

    customer: str
    from_: str = msgspec.field(name="from")
    to: str
    usage: CustomerLine
    meters: list[MeterBalance]
    held: list[HeldOfCustomer]
    billing_period: BillingPeriod | None


@dataclass(frozen=True, slots=True)
class Compared:
    """What a customer came to in a period, and before it."""

    now: UsageTotal
    before: UsageTotal

    @property
    def change_micros(self) -> int:
        """What came to the period before."""
        return self.now.micros - self.before.micros


# By what a list of customers can be ordered: amounts from the largest down, names from the first on.
SORTS: dict[str, Callable[[Compared], Decimal | int]] = {
    "customer": lambda _: 0,
    "traces": lambda each: each.now.traces,
    "credits": lambda each: each.now.micros,
    "cost": lambda each: each.now.cost_usd,
    "revenue": lambda each: each.now.revenue_usd,
    "margin": lambda each: each.now.margin_usd,
    "change": lambda each: each.change_micros,
}
ORDERS = ("", "asc", "desc")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which customers: those of a range whose names begin with something, in an order ('' is the usual one).

    Raises ConfigError for an order that there is not.
    """

    from_us: int
    to_us: int
    beginning: str = ""
    sort: str = "customer"
    order: str = ""

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise ConfigError(f"sort={self.sort!r:.60} is no order of customers; name one of {', '.join(SORTS)}.")
        if self.order not in ORDERS:
            raise ConfigError(f"order={self.order!r:.60} is no direction; name asc or desc.")

    @property
    def is_descending(self) -> bool:
        """Whether the largest come first."""
        return self.order == "desc" or (not self.order and self.sort != "customer")


def customers(ledger: Ledger, wanted: Wanted, limit: int, cursor: str | None = None) -> Listing[CustomerLine]:
    """A page of customers with usage in a range. Raises ConfigError for a cursor that is none."""
    found = _sorted(ledger, wanted)
    if cursor is not None:
        after = _place_of(cursor)
        found = [each for each in found if _is_behind(wanted, SORTS[wanted.sort](each[1]), each[0], after)]
    return listing(found, limit, lambda each: line_of(*each), lambda each: (str(SORTS[wanted.sort](each[1])), each[0]))


def all_customers(ledger: Ledger, wanted: Wanted) -> list[CustomerLine]:
    """All of them, in order."""
    return [line_of(*each) for each in _sorted(ledger, wanted)]


def customers_total(ledger: Ledger, wanted: Wanted) -> CustomersTotal:
    """How many customers these are, and their sum."""
    found = _compared(ledger, wanted)
    now, before = UsageTotal(), UsageTotal()
    for each in found.values():
        now.add(each.now)
        before.add(each.before)
    return CustomersTotal(len(found), line_of("", Compared(now, before)))


def line_of(customer_id: str, compared: Compared) -> CustomerLine:
    """A customer's sums as text."""
    row = compared.now.row(customer_id)
    return CustomerLine(
        row.key,
        row.traces,
        row.credits,
        row.cost_usd,
        row.revenue_usd,
        row.margin_usd,
        format_micros(compared.before.micros),
        format_micros(compared.change_micros),
    )


def _compared(ledger: Ledger, wanted: Wanted, customer_id: str = "") -> Mapping[str, Compared]:
    """Customers with usage in the range or in the time before it, by name."""
    length_us = wanted.to_us - wanted.from_us
    now = usage_totals(ledger, wanted.from_us, wanted.to_us, customer_id, "customer")
    before = usage_totals(ledger, wanted.from_us - length_us, wanted.from_us, customer_id, "customer")
    names = [name for name in now.keys() | before.keys() if name.startswith(wanted.beginning)]
    return {name: Compared(now.get(name, NONE), before.get(name, NONE)) for name in names}


def _sorted(ledger: Ledger, wanted: Wanted) -> list[tuple[str, Compared]]:
    """Those that are equal come in the order of their names."""
    by_name = sorted(_compared(ledger, wanted).items())
    if wanted.sort == "customer":
        return by_name[::-1] if wanted.is_descending else by_name
    return sorted(by_name, key=lambda each: SORTS[wanted.sort](each[1]), reverse=wanted.is_descending)


def _is_behind(wanted: Wanted, value: Decimal | int, name: str, after: tuple[Decimal, str]) -> bool:
    """Whether a customer comes after a place in the order."""
    if value != after[0]:
        return (value < after[0]) is wanted.is_descending
    if wanted.sort == "customer" and wanted.is_descending:
        return name < after[1]
    return name > after[1]


def _place_of(cursor: str) -> tuple[Decimal, str]:
    text, customer_id = read_cursor(cursor, str, str)
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ConfigError("that is no cursor of this list; begin without one.")
    return value, customer_id


# ---- one customer


def customer_standing(ledger: Ledger, customer_id: str, from_us: int, to_us: int, now_us: int) -> CustomerStanding:
    """How a customer stands. Raises NotFound for one of whom the ledger has nothing."""
    customer_id = without_nul(customer_id)
    if not next(iter(ledger.query("customer_is_known", customer_id=customer_id)))["known"]:
        raise NotFound(f"the ledger has nothing of the customer {customer_id!r:.80}; see `tallymark usage`.")
    compared = _compared(ledger, Wanted(from_us, to_us), customer_id).get(customer_id, Compared(NONE, NONE))
    period = next(iter(ledger.query("period_at", customer_id=customer_id, at_us=now_us)), None)
    return CustomerStanding(
        customer_id,
        format_time(from_us),
        format_time(to_us),
        line_of(customer_id, compared),
        _meters(ledger, customer_id),
        [_held(row) for row in ledger.query("held_of_customer", customer_id=customer_id)],
        BillingPeriod(format_time(period["start_us"]), format_time(period["end_us"])) if period else None,
    )


def _meters(ledger: Ledger, customer_id: str) -> list[MeterBalance]:
    found: dict[str, dict[str, int]] = {}
    for row in ledger.query("standing_of_customer", customer_id=customer_id):
        found.setdefault(row["meter"], {})[row["what"]] = row["amount_micros"]
    return [_balance(meter, micros) for meter, micros in sorted(found.items())]


def _balance(meter: str, micros: dict[str, int]) -> MeterBalance:
    accepted, unsent, carry = (micros.pop(what, 0) for what in ("accepted", "unsent", "carry"))
    waiting = {state: format_micros(amount) for state, amount in sorted(micros.items())}
    return MeterBalance(meter, format_micros(accepted), format_micros(unsent), waiting, format_micros(carry))


def _held(row: Any) -> HeldOfCustomer:
    return HeldOfCustomer(row["kind"], row["reason"], row["waiting"], format_micros(row["amount_micros"]))


def newest_meter_events(ledger: Ledger, customer_id: str, limit: int) -> list[MeterEventLine]:
    """The last meter events of a customer, the newest bucket first."""
    return [
        meter_event_line(row) for row in ledger.query("newest_meter_events_of", customer_id=customer_id, limit=limit)
    ]


def meter_event_line(row: Any) -> MeterEventLine:
    """A row of a statement on meter events."""
    return MeterEventLine(
        row["meter_event_id"],
        row["meter"],
        (format_time(row["bucket_start_us"]), format_time(row["bucket_end_us"])),
        format_micros(row["entries_micros"]),
        format_micros(row["carry_before_micros"]),
        row["credits"],
        format_micros(row["carry_after_micros"]),
        row["state"],
        row["reason"],
    )
