"""Billing periods: where buckets are split, and which usage comes too late for its invoice. Pure.

Usage is billed by the invoice of the period that its timestamp lies in, if it arrives before that invoice is final,
which it is a grace after the period's end; later it is on no invoice at all (facts/stripe.md section 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US

# Time between deciding and arriving, so that usage that is sent just in time is not too late on the way.
LATE_MARGIN_US = MINUTE_US
# Months differ by up to three days in thirty-one.
MONTH_US_MIN = 28 * DAY_US


@dataclass(frozen=True, slots=True)
class Period:
    """A billing period of one subscription item; the end is outside."""

    item_id: str
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Lateness:
    """When usage is too late: `grace_us` after its period's end, by default Stripe's own hour. None: never."""

    grace_us: int | None = HOUR_US

    def final_us(self, now_us: int) -> int:
        """Periods that ended at this moment, or before it, have final invoices."""
        if self.grace_us is None:
            return 0
        return now_us - max(self.grace_us - LATE_MARGIN_US, 0)


def boundaries_of(periods: Iterable[Period]) -> list[int]:
    """The moments at which a period of any item begins or ends, the earliest first."""
    return sorted({moment_us for period in periods for moment_us in (period.start_us, period.end_us)})


def closed_before(boundaries: Sequence[int], final_us: int) -> int:
    """Usage before this moment is too late: the latest boundary up to `final_us`; 0 if there is none."""
    return max((boundary for boundary in boundaries if boundary <= final_us), default=0)


def parts(start_us: int, end_us: int, boundaries: Sequence[int]) -> list[tuple[int, int]]:
    """A bucket cut at the boundaries inside it, the earliest part first."""
    edges = [start_us, *(boundary for boundary in boundaries if start_us < boundary < end_us), end_us]
    return list(pairwise(edges))


def dated_us(timestamp_us: int, window_us: int, boundaries: Sequence[int]) -> int | None:
    """When usage of a pre-aggregated meter is dated, so that each of its windows belongs to one billing period.

    Stripe dates a window by one meter event. So usage before a boundary inside its window is dated at the last second
    before that window, in the same period. None: that second is in another period.
    """
    start_us = timestamp_us - timestamp_us % window_us
    if not any(timestamp_us < boundary < start_us + window_us for boundary in boundaries):
        return timestamp_us
    moved_us = start_us - SECOND_US
    return None if any(moved_us < boundary <= timestamp_us for boundary in boundaries) else moved_us


def begun_in_window_us(timestamp_us: int, window_us: int, boundaries: Sequence[int]) -> int | None:
    """Where the period that holds a moment began inside the moment's window; None if not inside."""
    start_us = timestamp_us - timestamp_us % window_us
    return max((boundary for boundary in boundaries if start_us < boundary <= timestamp_us), default=None)


def corrected(known: Iterable[Period], read: Sequence[Period], now_us: int) -> list[Period]:
    """What to store once a customer's items were read: their periods, and known ones that ended before their time.

    A period ends early where its item began another one since, or is gone. The one before the first that is known, and
    before each that follows a gap, is added as far as it can be known.
    """
    begun_us = {period.item_id: period.start_us for period in read}
    again = {(period.item_id, period.start_us) for period in read}
    known = list(known)
    ended = [
        replace(period, end_us=max(period.start_us, begun_us.get(period.item_id, now_us)))
        for period in known
        if (period.item_id, period.start_us) not in again and period.end_us > begun_us.get(period.item_id, now_us)
    ]
    met = {(period.item_id, at_us) for period in (*known, *ended) for at_us in (period.start_us, period.end_us)}
    before = [_before(period) for period in read if (period.item_id, period.start_us) not in met]
    return [*read, *ended, *before]


def _before(period: Period) -> Period:
    """The period before one, of which nobody was told: at least as long as it can have been.

    Usage before that is on an invoice that is final, even while the one of the period before is not.
    """
    length_us = period.end_us - period.start_us
    shortest_us = length_us if length_us < MONTH_US_MIN else length_us * 28 // 31
    return Period(period.item_id, period.start_us - shortest_us, period.start_us)
