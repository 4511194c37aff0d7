"""Credits: held as integer micro-credits, rounded once, by name, at the end of rating."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

MICROS_PER_CREDIT = 1_000_000
# One entry may hold at most this much, so that sums of millions of entries stay inside 64 bits.
ENTRY_MICROS_MAX = 999_999_999 * MICROS_PER_CREDIT
# Stripe refuses meter event values of more than 15 digits (facts/stripe.md section 1, changelog 2026-04-22).
EVENT_CREDITS_MAX = 999_999_999_999_999

# Wide enough that no product of a cost (12 decimals), a margin and a price is rounded before `round_to_micros`.
EXACT = Context(prec=60)
_MICROS = Decimal(MICROS_PER_CREDIT)
_SIX_DECIMALS = re.compile(r"-?[0-9]+\.[0-9]{6}")


def round_to_micros(exact_credits: Decimal) -> int:
    """Round exact credits to integer micro-credits, half to even: the only rounding of an amount in tallymark.

    Raises ValueError if the amount is not finite.
    """
    if not exact_credits.is_finite():
        raise ValueError(f"{exact_credits} is not an amount of credits")
    return int(EXACT.multiply(exact_credits, _MICROS).to_integral_value(ROUND_HALF_EVEN))


def format_micros(amount_micros: int) -> str:
    """Write micro-credits as credits with six decimals, exactly: 12345678 becomes "12.345678"."""
    if type(amount_micros) is not int:
        raise TypeError(f"micro-credits are integers, not {type(amount_micros).__name__}")
    sign = "-" if amount_micros < 0 else ""
    whole, micros = divmod(abs(amount_micros), MICROS_PER_CREDIT)
    return f"{sign}{whole}.{micros:06d}"


def parse_micros(text: str) -> int:
    """The micro-credits that `format_micros` has written. Raises ValueError for anything else."""
    if not _SIX_DECIMALS.fullmatch(text):
        raise ValueError(f"{text!r:.60} is no amount of credits with six decimals")
    return int(text.replace(".", ""))


def format_usd(amount_usd: Decimal) -> str:
    """Write money to twelve decimals, as Langfuse keeps costs; without an exponent and without trailing zeros."""
    text = format(amount_usd.quantize(Decimal("1e-12"), context=EXACT), "f")
    return text.rstrip("0").rstrip(".")


def split_whole_credits(total_micros: int) -> tuple[int, int]:
    """Split a bucket's total (entries and carry) into whole credits to send and the carry that stays, in micro-credits.

    A total below one credit, negative ones included, goes into the carry whole (DESIGN section 1, carry).
    """
    if total_micros < MICROS_PER_CREDIT:
        return 0, total_micros
    credits, carry_micros = divmod(total_micros, MICROS_PER_CREDIT)
    return credits, carry_micros
