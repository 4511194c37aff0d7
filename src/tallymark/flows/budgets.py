"""Budgets of requests that all workers on a ledger share."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack

from ..core.clock import SECOND_US, Clock
from ..ledger import Ledger
from ..ledger.budgets import reserve
from ..ledger.guard import using_ledger

# Turns for so long are reserved at once: one transaction for several requests, and little is lost if they are not made.
RESERVED_SECONDS = 0.25


class SharedPace:
    """Spaces the requests of all workers to one service: at most one in so many microseconds, whoever makes it.

    It asks over a connection of its own, since requests are made while the ledger is written. Safe to use from several
    threads.
    """

    def __init__(self, ledger_url: str, service: str, interval_us: int, clock: Clock) -> None:
        self._ledger_url = ledger_url
        self._service = service
        self._interval_us = interval_us
        self._clock = clock
        self._turns: deque[int] = deque()
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._ledger: Ledger | None = None

    def wait(self) -> None:
        """Wait for this request's turn. Raises LedgerError if none can be reserved."""
        with self._lock:
            turn_us = self._next_us()
        if (ahead_us := turn_us - self._clock.now_us()) > 0:
            self._clock.sleep(ahead_us / SECOND_US)

    def _next_us(self) -> int:
        count = max(1, int(RESERVED_SECONDS * SECOND_US) // self._interval_us)
        # A turn that was not used in its time is somebody else's now.
        oldest_us = self._clock.now_us() - count * self._interval_us
        while self._turns and self._turns[0] < oldest_us:
            self._turns.popleft()
        if not self._turns:
            if self._ledger is None:
                self._ledger = self._open.enter_context(using_ledger(self._ledger_url))
            first_us = self._clock.now_us() + reserve(self._ledger, self._service, count, self._interval_us)
            self._turns.extend(first_us + turn * self._interval_us for turn in range(count))
        return self._turns.popleft()

    def close(self) -> None:
        """Close its connection."""
        self._open.close()
        self._ledger = None
