"""Time as integer microseconds since 1970, UTC. Who needs the present takes a Clock, so that tests can hold it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells the present, and waits."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


def from_datetime(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
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
