"""Subscriptions to a metered price, as far as billing reads them; they are planted, not made through the API.

Facts: facts/stripe.md sections 7 and 8.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallymark.core.clock import SECOND_US, Clock

from .errors import no_such
from .forms import Form, optional_choice, optional_text, refuse_unknown, required_text
from .pages import PAGE_KEYS, page
from .periods import Every, Period, begun_periods, longest_seconds
from .shapes import Json, list_json

# What `status` may ask for: with these, ones that have ended or have not; with Stripe's others, none.
_ENDED = {"active": (False,), "all": (False, True), "canceled": (True,), "ended": (True,)}
_STATUSES = (*_ENDED, "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
_URL = "/v1/subscriptions"
_HOUR_SECONDS = 3600
EXPAND = frozenset({"expand"})


@dataclass(frozen=True, slots=True)
class Subscription:
    """One customer's subscription with one item of one metered price; `unit_amount` is in cents."""

    number: int
    customer: str
    meter_id: str
    every: Every
    started_seconds: int
    anchor_seconds: int
    ends_seconds: int | None
    unit_amount: Decimal
    grace_seconds: int
    currency: str

    @property
    def id(self) -> str:
        """Its id; those of its item, price and product end alike."""
        return f"sub_sandbox_{self.number:04d}"

    @property
    def item_id(self) -> str:
        """The id of its only item."""
        return f"si_sandbox_{self.number:04d}"

    @property
    def price_id(self) -> str:
        """The id of its price."""
        return f"price_sandbox_{self.number:04d}"

    @property
    def product_id(self) -> str:
        """The id of its product."""
        return f"prod_sandbox_{self.number:04d}"

    def periods(self, now_seconds: int) -> list[Period]:
        """Those that have begun by now and are, or will be, billed; the oldest first."""
        return begun_periods(self.started_seconds, self.anchor_seconds, self.every, self.ends_seconds, now_seconds)

    def current_period(self, now_seconds: int) -> Period:
        """The period it is in, or, once it has ended, was in."""
        last_seconds = now_seconds if self.ends_seconds is None else min(now_seconds, self.ends_seconds - 1)
        return begun_periods(self.started_seconds, self.anchor_seconds, self.every, None, last_seconds)[-1]

    def has_ended(self, now_seconds: int) -> bool:
        """Whether it is cancelled."""
        return self.ends_seconds is not None and self.ends_seconds <= now_seconds

    def finalizes_seconds(self, period: Period) -> int:
        """When the invoice of a period becomes final."""
        return period.end_seconds + self.grace_seconds


class Subscriptions:
    """All subscriptions, in the order they were planted. Safe to share between threads."""

    def __init__(self, clock: Clock, livemode: bool) -> None:
        self._clock, self._livemode = clock, livemode
        self._subscriptions: list[Subscription] = []
        self._lock = threading.Lock()

    def plant(
        self,
        customer: str,
        meter_id: str,
        *,
        started_at_us: int,
        period: Every,
        anchor_us: int | None,
        unit_amount_decimal: Decimal | str,
        grace_hours: float,
        ends_at_us: int | None,
        currency: str,
    ) -> Subscription:
        """Add a subscription. Moments are cut to whole seconds. Raises ValueError for what is no period or no end."""
        longest_seconds(period)
        if ends_at_us is not None and ends_at_us < started_at_us + SECOND_US:
            raise ValueError("a subscription must end after it has started")
        with self._lock:
            subscription = Subscription(
                number=len(self._subscriptions) + 1,
                customer=customer,
                meter_id=meter_id,
                every=period,
                started_seconds=started_at_us // SECOND_US,
                anchor_seconds=(started_at_us if anchor_us is None else anchor_us) // SECOND_US,
                ends_seconds=None if ends_at_us is None else ends_at_us // SECOND_US,
                unit_amount=Decimal(unit_amount_decimal),
                grace_seconds=round(grace_hours * _HOUR_SECONDS),
                currency=currency,
            )
            self._subscriptions.append(subscription)
            return subscription

    def started(self, customer: str | None = None) -> Sequence[Subscription]:
        """Those of a customer, or of all, that have started by now; also those that have ended."""
        now_seconds = self._now_seconds()
        found = self._subscriptions.copy()
        return [one for one in found if customer in (None, one.customer) and one.started_seconds <= now_seconds]

    def list(self, form: Form, _identity: str) -> Json:
        """GET /v1/subscriptions: the newest first; without a `status`, those that are not cancelled."""
        refuse_unknown(form, PAGE_KEYS | {"customer", "price", "status"})
        status, price = optional_choice(form, "status", _STATUSES), optional_text(form, "price")
        found = [
            self._json(one)
            for one in reversed(self.started(optional_text(form, "customer")))
            if price in (None, one.price_id) and self._is_shown(one, status)
        ]
        return page(form, found, _URL)

    def _is_shown(self, subscription: Subscription, status: str | None) -> bool:
        return subscription.has_ended(self._now_seconds()) in _ENDED.get(status or "active", ())

    def get(self, form: Form, identity: str) -> Json:
        """GET /v1/subscriptions/{id}. Raises Refusal (404)."""
        refuse_unknown(form, EXPAND)
        return self._json(self._find(identity, "id"))

    def items(self, form: Form, _identity: str) -> Json:
        """GET /v1/subscription_items of one `subscription`. Raises Refusal (400)."""
        refuse_unknown(form, PAGE_KEYS | {"subscription"})
        subscription = self._find(required_text(form, "subscription"), "subscription", 400)
        return page(form, [item_json(subscription, self._now_seconds(), self._livemode)], "/v1/subscription_items")

    def price(self, form: Form, identity: str) -> Json:
        """GET /v1/prices/{id}. Raises Refusal (404)."""
        refuse_unknown(form, EXPAND)
        for one in self._subscriptions.copy():
            if one.price_id == identity:
                return price_json(one, self._livemode)
        raise no_such("price", identity, "price")

    def _find(self, identity: str, param: str, status: int = 404) -> Subscription:
        for one in self.started():
            if one.id == identity:
                return one
        raise no_such("subscription", identity, param, status)

    def _json(self, subscription: Subscription) -> Json:
        return subscription_json(subscription, self._now_seconds(), self._livemode)

    def _now_seconds(self) -> int:
        return self._clock.now_us() // SECOND_US


def subscription_json(subscription: Subscription, now_seconds: int, livemode: bool) -> Json:
    """`subscription`."""
    ends_seconds, ended = subscription.ends_seconds, subscription.has_ended(now_seconds)
    items = [item_json(subscription, now_seconds, livemode)]
    return {
        "id": subscription.id,
        "object": "subscription",
        "billing_cycle_anchor": subscription.anchor_seconds,
        "billing_mode": {"flexible": None, "type": "flexible", "updated_at": None},
        "cancel_at": ends_seconds,
        "cancel_at_period_end": ends_seconds == subscription.current_period(now_seconds).end_seconds,
        "canceled_at": ends_seconds if ended else None,
        "collection_method": "charge_automatically",
        "created": subscription.started_seconds,
        "currency": subscription.currency,
        "customer": subscription.customer,
        "ended_at": ends_seconds if ended else None,
        "items": list_json(f"/v1/subscription_items?subscription={subscription.id}", items, False),
        "livemode": livemode,
        "metadata": {},
        "start_date": subscription.started_seconds,
        "status": "canceled" if ended else "active",
    }


def item_json(subscription: Subscription, now_seconds: int, livemode: bool) -> Json:
    """`subscription_item`: the billing period stands here, not on the subscription (facts/stripe.md section 7)."""
    period = subscription.current_period(now_seconds)
    return {
        "id": subscription.item_id,
        "object": "subscription_item",
        "created": subscription.started_seconds,
        "current_period_end": period.end_seconds,
        "current_period_start": period.start_seconds,
        "metadata": {},
        "price": price_json(subscription, livemode),
        "subscription": subscription.id,
    }


def price_json(subscription: Subscription, livemode: bool) -> Json:
    """`price`: metered, per unit. A period given in seconds has no interval of Stripe's and shows as a day."""
    unit_amount = subscription.unit_amount
    return {
        "id": subscription.price_id,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": subscription.started_seconds,
        "currency": subscription.currency,
        "livemode": livemode,
        "metadata": {},
        "product": subscription.product_id,
        "recurring": {
            "interval": subscription.every if isinstance(subscription.every, str) else "day",
            "interval_count": 1,
            "meter": subscription.meter_id,
            "trial_period_days": None,
            "usage_type": "metered",
        },
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring",
        "unit_amount": int(unit_amount) if unit_amount == unit_amount.to_integral_value() else None,
        "unit_amount_decimal": f"{unit_amount:f}",
    }
