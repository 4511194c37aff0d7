"""Money of invoices, in the smallest unit of its currency (cents). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

from .credits import EXACT, MICROS_PER_CREDIT


def amount_of(shares: Iterable[tuple[int, Decimal]]) -> int:
    """What shares of (micro-credits, price of one credit in cents) cost together: added exactly, rounded once.

    Halves go away from zero; what Stripe does on a metered line is not published (facts/stripe.md section 7).
    """
    exact = Decimal(0)
    for amount_micros, cents in shares:
        credits = EXACT.divide(Decimal(amount_micros), Decimal(MICROS_PER_CREDIT))
        exact = EXACT.add(exact, EXACT.multiply(credits, cents))
    return int(exact.to_integral_value(ROUND_HALF_UP))
