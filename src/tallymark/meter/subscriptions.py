"""The subscription items of a customer: their billing periods, and what a credit costs there.

Facts: facts/stripe.md sections 7 and 8. Periods stand on the items; a cancelled subscription ends the last one early.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..core.clock import SECOND_US
from ..core.periods import Period
from .stripe_events import StripeMeter

NEEDS = (
    "grant Subscriptions: read (Stripe: Developers, API keys), or set BILLING_LATE_PERIOD=send to ask for no periods"
)
# These never became subscriptions: they have no invoice that usage could be on.
_NEVER_BEGUN = ("incomplete", "incomplete_expired")


@dataclass(frozen=True, slots=True)
class Item:
    """A subscription item with a metered price: its meter, the period it is in (or was, if cancelled), and its price.

    `unit_price` is in the smallest unit of the currency for one credit; None where the price is not one per unit.
    """

    meter_id: str
    period: Period
    currency: str
    unit_price: Decimal | None


def items_of(meter: StripeMeter, customer_id: str) -> list[Item]:
    """All metered items of a customer, cancelled ones too. Raises KeyRefused, Unreachable or Unavailable."""

    def ask() -> list[Item]:
        found = meter.client.v1.subscriptions.list({"customer": customer_id, "status": "all", "limit": 100})
        return [item for one in found.auto_paging_iter() for item in _items(one)]

    return meter.patiently(ask, NEEDS)


def may_read(meter: StripeMeter) -> None:
    """Raise KeyRefused if the key may not read subscriptions; Unreachable or Unavailable if that cannot be told."""
    meter.patiently(lambda: meter.client.v1.subscriptions.list({"limit": 1}), NEEDS)


def _items(subscription: Any) -> Iterator[Item]:
    if subscription.status in _NEVER_BEGUN:
        return
    for item in subscription["items"].auto_paging_iter():
        recurring = item.price.recurring
        if recurring is not None and recurring.meter is not None:
            yield Item(recurring.meter, _period(subscription, item), item.price.currency, _unit_price(item.price))


def _period(subscription: Any, item: Any) -> Period:
    ends = (item.current_period_end, subscription.ended_at, subscription.cancel_at)
    end_s = min(end for end in ends if end is not None)
    start_s = item.current_period_start
    return Period(item.id, start_s * SECOND_US, max(start_s, end_s) * SECOND_US)


def _unit_price(price: Any) -> Decimal | None:
    if price.billing_scheme != "per_unit" or price.transform_quantity is not None or price.unit_amount_decimal is None:
        return None
    return Decimal(price.unit_amount_decimal)
