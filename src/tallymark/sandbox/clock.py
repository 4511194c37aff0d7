"""Clocks that tests hold in their hand: one moves only when told to, the other goes on by itself too."""

from __future__ import annotations

import threading

from tallymark.core.clock import SECOND_US, Clock


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


class OffsetClock:
    """Another clock, moved on: implements `core.clock.Clock`. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        """Start at the other clock's present."""
        self._clock = clock
        self._offset = VirtualClock(0)

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._clock.now_us() + self._offset.now_us()

    def sleep(self, seconds: float) -> None:
        """Wait that long on the other clock."""
        self._clock.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time on, without waiting. Raises ValueError for a negative number."""
        self._offset.advance(seconds)
