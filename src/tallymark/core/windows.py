"""Windows of time: buckets for the meter, and the limits that Stripe and Langfuse set on age."""

from __future__ import annotations

from .clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US

# Stripe takes timestamps of the past 35 days, rolling (facts/stripe.md section 1).
STRIPE_AGE_MAX_US = 35 * DAY_US
# Time between deciding and sending, so that an accepted trace does not grow too old on the way.
STRIPE_AGE_MARGIN_US = 5 * MINUTE_US
# A meter event's identifier is unique "within a rolling period of at least 24 hours" (facts/stripe.md section 1).
STRIPE_PROMISE_US = 24 * HOUR_US
STRIPE_PROMISE_MARGIN_US = HOUR_US
# Clocks differ: a trace up to this far ahead is not from the future (the product's rule, issue of the whole path).
FUTURE_TOLERANCE_US = 300 * SECOND_US

# How far a time in the ledger may lie ahead of now before the clock is said to have gone backwards.
CLOCK_TOLERANCE_US = 5 * MINUTE_US

BUCKET_US = {"minute": MINUTE_US, "hour": HOUR_US, "day": DAY_US}
# Windows of pre-aggregated meters, aligned in UTC (facts/stripe.md section 4).
METER_WINDOW_S = {"hour": HOUR_US // SECOND_US, "day": DAY_US // SECOND_US}


def bucket_of(timestamp_us: int, bucket: str) -> tuple[int, int]:
    """The UTC window (start inclusive, end exclusive) that holds a moment.

    A "trace" bucket has no width of its own: it lies in the second of its trace.
    """
    width_us = BUCKET_US.get(bucket, SECOND_US)
    start_us = timestamp_us - timestamp_us % width_us
    return start_us, start_us + width_us


def is_too_old(timestamp_us: int, now_us: int) -> bool:
    """Whether Stripe would refuse a meter event of this moment as too old."""
    return timestamp_us < now_us - STRIPE_AGE_MAX_US + STRIPE_AGE_MARGIN_US


def is_future(timestamp_us: int, now_us: int) -> bool:
    """Whether a trace's time lies ahead by more than clocks may differ."""
    return timestamp_us > now_us + FUTURE_TOLERANCE_US
