"""What was asked of the sandbox: no headers, no bodies, no keys."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

from ..wire import Request

# The log forgets the oldest requests beyond this; `counts` forgets nothing.
_LOGGED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as it was answered: no headers, no body, no key."""

    route: str
    path: str
    query: tuple[tuple[str, str], ...]
    status: int
    at_us: int


class RequestLog:
    """The last requests, and how many there were of each route. Safe to share between threads."""

    def __init__(self) -> None:
        self._requests: deque[LoggedRequest] = deque(maxlen=_LOGGED_MAX)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, route: str, request: Request, status: int, at_us: int) -> None:
        """Log one request and count it."""
        with self._lock:
            self._counts[route] += 1
            self._requests.append(LoggedRequest(route, request.path, request.query, status, at_us))

    def requests(self) -> list[LoggedRequest]:
        """The last 100,000 requests, in the order of their answers."""
        with self._lock:
            return list(self._requests)

    def counts(self) -> dict[str, int]:
        """Requests by "METHOD /template" since the start or the last `clear`."""
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        """Forget all requests and their counts."""
        with self._lock:
            self._requests.clear()
            self._counts.clear()
