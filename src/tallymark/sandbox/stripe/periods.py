"""When a subscription is billed: its periods by its anchor, in unix seconds. Pure."""

from __future__ import annotations

import calendar
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Literal

Every = Literal["month", "week", "day"] | int
"""How long a period is; a number is seconds, at least 60, for tests that cannot wait for a day."""

_SECONDS_MIN = 60
_SECONDS = {"day": 86_400, "week": 7 * 86_400, "month": 31 * 86_400}


@dataclass(frozen=True, slots=True)
class Period:
    """A billing period; the end is outside."""

    start_seconds: int
    end_seconds: int


def longest_seconds(every: Every) -> int:
    """How long a period is at most. Raises ValueError for what is no length of a period."""
    seconds = every if isinstance(every, int) else _SECONDS.get(every, 0)
    if seconds < _SECONDS_MIN:
        raise ValueError(f"{every!r} is no period: month, week, day, or a number of seconds from {_SECONDS_MIN}")
    return seconds


def begun_periods(
    started_seconds: int, anchor_seconds: int, every: Every, ends_seconds: int | None, now_seconds: int
) -> list[Period]:
    """The periods that have begun by now, the oldest first. The first one lasts to the anchor if that is later.

    A period that an end cuts short is left out: a subscription cancelled at once is not billed for it
    (facts/stripe.md section 7).
    """
    periods: list[Period] = []
    start_seconds = started_seconds
    for end_seconds in _boundaries_after(started_seconds, anchor_seconds, every):
        if start_seconds > now_seconds or (ends_seconds is not None and end_seconds > ends_seconds):
            return periods
        periods.append(Period(start_seconds, end_seconds))
        start_seconds = end_seconds
    return periods


def _boundaries_after(moment_seconds: int, anchor_seconds: int, every: Every) -> Iterator[int]:
    # The anchor is the first boundary there is. No period is longer than this, so none is missed.
    first = max(0, (moment_seconds - anchor_seconds) // longest_seconds(every))
    moments = (_boundary(anchor_seconds, every, number) for number in count(first))
    return (boundary for boundary in moments if boundary > moment_seconds)


def _boundary(anchor_seconds: int, every: Every, number: int) -> int:
    """The moment that many periods after the anchor. Months keep the anchor's day, or end with a shorter month."""
    if every != "month":
        return anchor_seconds + number * longest_seconds(every)
    anchor = datetime.fromtimestamp(anchor_seconds, UTC)
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + number, 12)
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    return int(anchor.replace(year=year, month=month + 1, day=day).timestamp())


def period_at(periods: Sequence[Period], moment_seconds: int) -> Period | None:
    """The one of these periods, the oldest first, that holds a moment."""
    number = bisect_right(periods, moment_seconds, key=lambda period: period.start_seconds)
    if number and moment_seconds < periods[number - 1].end_seconds:
        return periods[number - 1]
    return None
