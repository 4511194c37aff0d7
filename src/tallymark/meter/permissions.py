"""What a restricted key of Stripe must be granted, and what shows whether it is; docs/howto/security.md has the table.

Stripe has no way to ask what a key may do. Reading shows it by reading one row; writing meter events by one that names
no meter, which Stripe refuses whatever the key may do, with 403 before it looks at it, or with 400 after.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..errors import NotPermitted
from .stripe_events import GRANT_METER_EVENTS, StripeMeter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stripe

GRANT_INVOICES = "grant Invoices: write (Stripe: Developers, API keys), or decide otherwise"
# What tallymark never asks for, as signs of a key that may too much, each read where a key may.
_NOT_NEEDED: dict[str, Callable[[Any], object]] = {
    "charges": lambda v1: v1.charges.list({"limit": 1}),
    "balance": lambda v1: v1.balance.retrieve(),
    "payouts": lambda v1: v1.payouts.list({"limit": 1}),
}


def require_meter_events(meter: StripeMeter) -> None:
    """Raise NotPermitted if the key may not write meter events; Unreachable or Unavailable if that cannot be told."""

    def ask() -> None:
        try:
            meter.client.v1.billing.meter_events.create({})  # type: ignore[typeddict-item]
        except stripe.InvalidRequestError as error:
            if error.http_status != 400:
                raise

    meter.patiently(ask, GRANT_METER_EVENTS)


def may_read_invoice_items(meter: StripeMeter) -> bool:
    """Whether the key may read invoice items, and so at most write them too. Raises Unreachable or Unavailable."""
    try:
        meter.patiently(lambda: meter.client.v1.invoice_items.list({"limit": 1}), GRANT_INVOICES)
    except NotPermitted:
        return False
    return True


def not_needed(meter: StripeMeter) -> list[str]:
    """What the key may read although nothing in tallymark does. Raises KeyRefused, Unreachable or Unavailable."""
    return [what for what, ask in _NOT_NEEDED.items() if _may(meter, ask)]


def _may(meter: StripeMeter, ask: Callable[[Any], object]) -> bool:
    def try_it() -> bool:
        try:
            ask(meter.client.v1)
        except (stripe.PermissionError, stripe.InvalidRequestError):
            return False
        return True

    return meter.patiently(try_it)
