"""A clock that tests hold in their hand: it moves only when told to."""

from __future__ import annotations

import threading

from tallymark.core.clock import SECOND_US


class VirtualClock:
    """Implements `core.clock.Clock` without waiting: `sleep` moves the time on. Safe to share between threads."""

    def __init__(self, now_us: int) -> None:
        """Start at `now_us`, microseconds since 1970, UTC."""
        self._now_us = now_us
        self._lock = threading.Lock()

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._now_us

    def sleep(self, seconds: float) -> None:
        """Move the time on; returns at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time on. Raises ValueError for a negative number: time does not run backwards here."""
        if seconds < 0:
            raise ValueError(f"cannot advance a clock by {seconds} seconds")
        with self._lock:
            self._now_us += round(seconds * SECOND_US)
