"""What Stripe limits: calls a second for the account, and one call in flight per customer and meter."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tallymark.core.clock import SECOND_US

from .errors import locked, rate_limited


class RateLimit:
    """At most so many requests in each second of the clock (facts/stripe.md section 6); None is no limit."""

    def __init__(self, per_second: int | None) -> None:
        self._per_second = per_second
        self._second = 0
        self._count = 0
        self._lock = threading.Lock()

    def take(self, now_us: int) -> None:
        """Count one request. Raises Refusal (429) above the limit."""
        if self._per_second is None:
            return
        with self._lock:
            second = now_us // SECOND_US
            self._count = self._count + 1 if second == self._second else 1
            self._second = second
            if self._count > self._per_second:
                raise rate_limited()


class InFlight:
    """One call at a time per key (customer, meter id), and a memory of the most that ever met."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, str]] = Counter()
        self._calls_max: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def call(self, key: tuple[str, str]) -> Iterator[None]:
        """Be the one call of this key. Raises Refusal (429) if there is another; that attempt counts for `most`."""
        with self._lock:
            self._calls[key] += 1
            alone = self._calls[key] == 1
            self._calls_max[key] = max(self._calls_max.get(key, 0), self._calls[key])
        try:
            if not alone:
                raise locked()
            yield
        finally:
            self._leave(key)

    def _leave(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._calls[key] -= 1
            if not self._calls[key]:
                del self._calls[key]

    def most(self) -> dict[tuple[str, str], int]:
        """For each key, the largest number of calls that were ever in flight at once."""
        with self._lock:
            return dict(self._calls_max)
