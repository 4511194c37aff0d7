"""Faults between a client and a sandbox service: seeded or scripted, decided without any socket.

`Faults.next` decides, `answer` turns the decision into what the client will see. The HTTP server acts it out on a
socket; a simulation in one process can act out the same `Answer` by raising its own errors.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol, runtime_checkable

from .wire import Request, Response, Service

Matcher = Callable[[Request], bool]

_HTML_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class Fault(Enum):
    """What goes wrong. BEFORE: the service never saw the request. AFTER, TRUNCATED: it processed it, unseen."""

    RATE_LIMITED = "rate_limited"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    TRUNCATED = "truncated"
    HANG_BEFORE = "hang_before"
    HANG_AFTER = "hang_after"
    HTML = "html"


class Ending(Enum):
    """How the exchange ends for the client."""

    SENT = "sent"
    TRUNCATED = "truncated"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets: a response when `ending` is SENT, half of one when TRUNCATED, else nothing."""

    ending: Ending
    response: Response | None = None


@runtime_checkable
class Refusing(Protocol):
    """A service that has words of its own for a refusal which is not its own decision."""

    def refusal(self, status: int) -> Response:
        """The body and headers this service would send with 429, 500 or 503."""
        ...


_ENDINGS = {
    Fault.RESET_BEFORE: Ending.RESET,
    Fault.RESET_AFTER: Ending.RESET,
    Fault.TRUNCATED: Ending.TRUNCATED,
    Fault.HANG_BEFORE: Ending.HANG,
    Fault.HANG_AFTER: Ending.HANG,
}
_REFUSED_STATUS = {Fault.RATE_LIMITED: 429, Fault.ERROR_BEFORE: 503, Fault.ERROR_AFTER: 500}
_PROCESSED = frozenset({Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.TRUNCATED, Fault.HANG_AFTER})


class Faults:
    """Chooses a fault for each request. Safe to share between threads.

    `done` counts the faults chosen so far; `hang_seconds` bounds a hang, so that a client without a time-out ends too.
    """

    def __init__(
        self,
        seed: int,
        rates: Mapping[Fault, float],
        only: Matcher | None = None,
        limit: int | None = None,
        *,
        retry_after_seconds: float = 0,
        hang_seconds: float = 30,
    ) -> None:
        """Draw a fault for every request that `only` accepts, at most `limit` in total.

        `rates` are probabilities per fault whose sum is at most 1. The n-th accepted request always meets the same fate
        for one seed. Raises ValueError for rates that are no probabilities.
        """
        self.done: Counter[Fault] = Counter()
        self.retry_after_seconds = retry_after_seconds
        self.hang_seconds = hang_seconds
        self._seed, self._number = seed, 0
        self._steps: list[tuple[Matcher, Fault]] = []
        self._lock = threading.Lock()
        self.change(rates, only, limit)

    def change(self, rates: Mapping[Fault, float], only: Matcher | None = None, limit: int | None = None) -> None:
        """From now on draw by other rates, at most `limit` further ones. Raises ValueError as the constructor does."""
        if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1 + 1e-9:
            raise ValueError(f"fault rates must lie between 0 and 1 and add up to at most 1: {dict(rates)}")
        with self._lock:
            self._rates, self._only = dict(rates), only
            self._done_max = None if limit is None else self.done.total() + limit

    @classmethod
    def script(
        cls, steps: Sequence[tuple[Matcher, Fault]], *, retry_after_seconds: float = 0, hang_seconds: float = 30
    ) -> Faults:
        """Each step strikes once, at the first request that its matcher accepts (see `nth`)."""
        faults = cls(0, {}, retry_after_seconds=retry_after_seconds, hang_seconds=hang_seconds)
        faults._steps = list(steps)
        return faults

    def next(self, request: Request) -> Fault | None:
        """The fault for this request, counted in `done`; None if spared, as the sandbox's own routes always are."""
        if request.path.startswith("/sandbox/"):
            return None
        with self._lock:
            fault = self._scripted(request) or self._drawn(request)
            if fault is not None:
                self.done[fault] += 1
            return fault

    def _scripted(self, request: Request) -> Fault | None:
        # Every matcher is asked every time, because `nth` counts what it is asked.
        struck = [step for step in self._steps if step[0](request)]
        if not struck:
            return None
        self._steps.remove(struck[0])
        return struck[0][1]

    def _drawn(self, request: Request) -> Fault | None:
        if not self._rates or (self._only is not None and not self._only(request)):
            return None
        self._number += 1
        if self._done_max is not None and self.done.total() >= self._done_max:
            return None
        return draw(self._seed, self._number, self._rates)


def draw(seed: int, number: int, rates: Mapping[Fault, float]) -> Fault | None:
    """The fate of the request of that number: a pure function, the same on every machine."""
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "big") / 2**64
    for fault, rate in rates.items():
        point -= rate
        if point < 0:
            return fault
    return None


def to(method: str = "", path_prefix: str = "") -> Matcher:
    """A matcher for requests of that method, or of any, whose path starts so."""
    return lambda request: method in ("", request.method) and request.path.startswith(path_prefix)


def nth(number: int, method: str, path_prefix: str) -> Matcher:
    """A matcher for the n-th (from 1) request of that method whose path starts so."""
    seen, wanted = 0, to(method, path_prefix)

    def matches(request: Request) -> bool:
        nonlocal seen
        seen += wanted(request)
        return seen == number

    return matches


def answer(service: Service, request: Request, faults: Faults | None) -> Answer:
    """Let the service answer through the faults: what the client will see of it. Opens no socket."""
    fault = faults.next(request) if faults is not None else None
    if faults is None or fault is None:
        return Answer(Ending.SENT, service.handle(request))
    response = service.handle(request) if fault in _PROCESSED else None
    if fault in _ENDINGS:
        return Answer(_ENDINGS[fault], response)
    return Answer(Ending.SENT, _refusal(service, fault, faults.retry_after_seconds))


def _refusal(service: Service, fault: Fault, retry_after_seconds: float) -> Response:
    if fault is Fault.HTML:
        return Response(502, _HTML_PAGE, {"content-type": "text/html"})
    response = refusal_of(service, _REFUSED_STATUS[fault])
    if fault is not Fault.RATE_LIMITED:
        return response
    return replace(response, headers={**response.headers, "retry-after": f"{retry_after_seconds:g}"})


def refusal_of(service: Service, status: int) -> Response:
    """What a service sends with 429, 500 or 503: in its own words if it has some."""
    if isinstance(service, Refusing):
        return service.refusal(status)
    return Response(status, b'{"message":"refused by the sandbox"}', {"content-type": "application/json"})
