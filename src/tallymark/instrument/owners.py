"""Owners: which customer a trace belongs to, so that no other customer's run joins it."""

from __future__ import annotations

import threading

TRACES_MAX = 10_000
"""How many traces are remembered; the oldest are forgotten first (DESIGN G6)."""


class TraceOwners:
    """Remembers the first customer of each of the latest traces. Safe to use from many threads."""

    def __init__(self, traces_max: int = TRACES_MAX) -> None:
        """Remember nothing yet."""
        self._traces_max = traces_max
        self._customers: dict[int, str] = {}
        self._lock = threading.Lock()

    def claim(self, trace_id: int, customer: str) -> bool:
        """Whether the trace is this customer's; it is if it was nobody's."""
        with self._lock:
            owner = self._customers.setdefault(trace_id, customer)
            if len(self._customers) > self._traces_max:
                del self._customers[next(iter(self._customers))]
        return owner == customer
