"""Stripe's Idempotency-Key: the first answer is stored and given again (facts/stripe.md sections 5 and 6)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from tallymark.core.clock import HOUR_US

from ..wire import Request, Response
from .errors import idempotency_in_use, idempotency_key_too_long, idempotency_mismatch

_KEPT_US = 24 * HOUR_US
_KEY_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True)
class _Stored:
    """A key's first request; `response` is None while it is being processed."""

    method: str
    path: str
    body: bytes
    response: Response | None
    stored_at_us: int

    def is_same(self, request: Request) -> bool:
        return (self.method, self.path, self.body) == (request.method, request.path, request.body)


class IdempotencyKeys:
    """The memory of keys for 24 hours. A refusal of the request itself (4xx) is not stored; a 500 is, but not by v2."""

    def __init__(self) -> None:
        self._stored: dict[str, _Stored] = {}
        self._lock = threading.Lock()

    def answer(self, request: Request, now_us: int, execute: Callable[[], Response]) -> Response:
        """Execute a POST once per key, or replay. Raises Refusal: 400 for other parameters, 409 while in progress."""
        key = request.headers.get("idempotency-key")
        if not key or request.method != "POST":
            return execute()
        if len(key) > _KEY_LENGTH_MAX:
            raise idempotency_key_too_long()
        known = self._open(key, request, now_us)
        if known is not None:
            return _replay(key, known, request)
        return self._execute(key, execute)

    def _open(self, key: str, request: Request, now_us: int) -> _Stored | None:
        """What is known of the key; if nothing is, note that it is now in progress."""
        with self._lock:
            self._prune(now_us)
            known = self._stored.get(key)
            if known is None:
                self._stored[key] = _Stored(request.method, request.path, request.body, None, now_us)
            return known

    def _execute(self, key: str, execute: Callable[[], Response]) -> Response:
        response: Response | None = None
        try:
            response = execute()
            return response
        finally:
            self._close(key, response)

    def _close(self, key: str, response: Response | None) -> None:
        with self._lock:
            opened = self._stored.pop(key, None)
            if opened is not None and response is not None and _is_stored(opened.path, response.status):
                self._stored[key] = replace(opened, response=response)

    def _prune(self, now_us: int) -> None:
        # Dicts keep their order, so the oldest keys are the first.
        while self._stored:
            key, oldest = next(iter(self._stored.items()))
            if now_us - oldest.stored_at_us < _KEPT_US:
                return
            del self._stored[key]


def _is_stored(path: str, status: int) -> bool:
    """v2 does failed work again; v1 repeats a 500 as it was."""
    return status < 400 or (status >= 500 and not path.startswith("/v2/"))


def _replay(key: str, known: _Stored, request: Request) -> Response:
    if not known.is_same(request):
        raise idempotency_mismatch(key)
    if known.response is None:
        raise idempotency_in_use(key)
    return replace(known.response, headers={**known.response.headers, "idempotent-replayed": "true"})
