"""Ranges of time as a caller names them."""

from __future__ import annotations

import re

from ..core.clock import DAY_US, format_time, parse_time
from ..errors import ConfigError

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def check_range(from_us: int | None, to_us: int | None) -> None:
    """Refuse a range that ends before it begins: it reads nothing, which looks as if there were nothing.

    Both in microseconds since 1970; None is an end that was not named. Raises ConfigError.
    """
    if from_us is not None and to_us is not None and to_us < from_us:
        raise ConfigError(
            f"the range ends ({format_time(to_us)}) before it begins ({format_time(from_us)}); "
            "name an earlier --from or a later --to."
        )


def moment_named(text: str | None) -> int | None:
    """The moment of a time with a zone, or of the beginning of a day in UTC; None for nothing. Raises ConfigError."""
    if not text:
        return None
    try:
        return parse_time(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
    except ValueError:
        raise ConfigError(
            f"{text!r:.60} is no time; write 2026-11-20T10:00:00Z, or a day such as 2026-11-20."
        ) from None


def month_named(name: str, now_us: int) -> tuple[int, int]:
    """The calendar month, in UTC, of a name such as "2026-11"; "last" is the one that ended last.

    From and to (exclusive) in microseconds since 1970. Raises ConfigError for any other name.
    """
    if name == "last":
        # The day before the first of this month lies in it.
        name = format_time(parse_time(f"{format_time(now_us)[:7]}-01T00:00:00Z") - DAY_US)[:7]
    found = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", name)
    if found is None:
        raise ConfigError(f"{name!r:.60} is no month; write 2026-11, or last for the one that ended last.")
    year, month = divmod(int(found[1]) * 12 + int(found[2]), 12)
    try:
        return parse_time(f"{name}-01T00:00:00Z"), parse_time(f"{year:04d}-{month + 1:02d}-01T00:00:00Z")
    except ValueError:
        raise ConfigError(f"{name} is too far off to be billed; write a month such as 2026-11.") from None
