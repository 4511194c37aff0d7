"""Ranges of time as a caller names them."""

from __future__ import annotations

from ..core.clock import format_time
from ..errors import ConfigError


def check_range(from_us: int | None, to_us: int | None) -> None:
    """Refuse a range that ends before it begins: it reads nothing, which looks as if there were nothing.

    Both in microseconds since 1970; None is an end that was not named. Raises ConfigError.
    """
    if from_us is not None and to_us is not None and to_us < from_us:
        raise ConfigError(
            f"the range ends ({format_time(to_us)}) before it begins ({format_time(from_us)}); "
            "name an earlier --from or a later --to."
        )
