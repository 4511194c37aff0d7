"""Time as integer microseconds since 1970, UTC. Who needs the present takes a Clock, so that tests can hold it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
# Far from the first and last year of a datetime, so that a window around a moment can be told too.
YEAR_MIN, YEAR_MAX = 1900, 9000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells the present, and waits."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


class Pace(Protocol):
    """Spaces requests to one service, so that a budget is kept."""

    def wait(self) -> None:
        """Wait for this request's turn."""
        ...


def from_datetime(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime. Raises ValueError for a naive one, and for one that is far off."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise ValueError(f"{moment.isoformat()} is too far off to be true")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds


def to_datetime(moment_us: int) -> datetime:
    """The aware UTC datetime of a moment."""
    return _EPOCH + timedelta(microseconds=moment_us)


def format_time(moment_us: int) -> str:
    """ISO-8601 with milliseconds and Z, as Langfuse writes it: 2026-11-20T10:00:00.000Z."""
    return to_datetime(moment_us).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment_us // 1000 % 1000:03d}Z"


def parse_time(text: str) -> int:
    """Read ISO-8601 with a zone. Raises ValueError for anything else, naming the text."""
    try:
        return from_datetime(datetime.fromisoformat(text))
    except ValueError:
        raise ValueError(f"{text!r} is not a time with a zone, such as 2026-11-20T10:00:00Z") from None


def wait_seconds(header: str | None, *, least: float, most: float) -> float | None:
    """The seconds of a Retry-After header, between bounds; None for none, and for what is no number of seconds."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return min(max(seconds, least), most) if not math.isnan(seconds) else None
