"""One Langfuse server and project over HTTP: keys, time-outs, retries, rate limits, and its errors in our words.

Plain HTTP and no SDK: the Langfuse SDK 5 can no longer list traces (facts/langfuse-observed.md item 30).
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from .. import machine
from ..core.clock import SECOND_US, Clock, Pace, wait_seconds
from ..core.secrets import told
from ..errors import Garbled, KeyRefused, NotFound, Refused, RemoteError, TooMuch, Unavailable, Unreachable, WrongMode
from ..failpoints import Side, Step, reach
from .mending import NUL, mended

T = TypeVar("T")

ATTEMPTS_MAX = 7
RETRY_DELAY_SECONDS_MAX = 15.0
# A 429 names its own delay; a server that answers nothing else for this long is unavailable.
RATE_LIMIT_PATIENCE_SECONDS = 15 * 60
# Redis down makes a Langfuse server accept the connection and never answer (facts/langfuse-observed.md item 21).
TIMEOUT = urllib3.Timeout(connect=10, read=60)


# A 404 of the mode comes before the keys are checked, and is no missing trace (facts/langfuse.md section 0.2).
MODE_WORDS = ("events_only mode", "Langfuse v4 write mode")

# What decoding may raise: no JSON, another shape, text that is no UTF-8, brackets without end.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class _ErrorBody(msgspec.Struct):
    """What Langfuse says in an error, where it is JSON at all (facts/langfuse.md section 7.3)."""

    message: str = ""
    error: object = None


@dataclass(slots=True)
class _Budget:
    """A request budget: at most `per_minute` requests in any 60 seconds; None for no limit."""

    per_minute: int | None
    clock: Clock
    sent_at_us: deque[int] = field(default_factory=deque)

    def wait(self) -> None:
        """Wait until one more request is within the budget, and count it."""
        if self.per_minute is None:
            return
        if len(self.sent_at_us) >= self.per_minute:
            free_at_us = self.sent_at_us.popleft() + 60 * SECOND_US
            self.clock.sleep(max(0, free_at_us - self.clock.now_us()) / SECOND_US)
        self.sent_at_us.append(self.clock.now_us())


class LangfuseClient:
    """Requests to one project of one server.

    `base_url` names the server; `requests_per_minute` is a budget kept besides obeying 429 and Retry-After;
    `pace` keeps one for several clients instead.
    Raises KeyRefused, Unreachable, Unavailable, Garbled, TooMuch or NotFound, never an error of the HTTP library.
    """

    def __init__(
        self,
        base_url: str,
        public_key: str,
        secret_key: str,
        clock: Clock,
        requests_per_minute: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.public_key = public_key
        self.keys = public_key, secret_key
        self._basic = urllib3.make_headers(basic_auth=f"{public_key}:{secret_key}")
        self.requests = 0
        self.server_date: str | None = None
        self._clock = clock
        self._pace = pace or _Budget(requests_per_minute, clock)
        # Reading ahead and looking up share a client.
        self._lock = threading.Lock()
        self._jitter = random.Random(0)  # noqa: S311 - spreads retries, keeps no secret
        self._pool = machine.current().langfuse_connections(
            maxsize=4,
            retries=False,
            timeout=TIMEOUT,
            headers={
                **self._basic,
                **urllib3.make_headers(accept_encoding="gzip"),
                "user-agent": "tallymark",
                "accept": "application/json",
            },
        )

    def get(self, path: str, query: Sequence[tuple[str, str]], decode: Callable[[bytes], T]) -> T:
        """GET a path under the base URL and decode its 200. Repeats what is worth repeating."""
        url = f"{self.base_url}{path}?{urlencode(query)}" if query else f"{self.base_url}{path}"
        return self._repeat(lambda: self._once("GET", url, None, decode))

    def post(self, path: str, body: bytes, decode: Callable[[bytes], T]) -> T:
        """POST JSON and decode the answer (200, 201, 202 or 207). The body must be safe to repeat."""
        url = f"{self.base_url}{path}"
        return self._repeat(lambda: self._once("POST", url, body, decode))

    def told(self, text: str) -> str:
        """What the server said, as it may be kept and shown: without this client's keys, in one short line."""
        return told(text, self.keys[1], self._basic["authorization"].split()[-1])

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _repeat(self, once: Callable[[], T]) -> T:
        attempt, waited_seconds = 1, 0.0
        while True:
            try:
                return once()
            except _RateLimited as limited:
                waited_seconds += limited.retry_after_seconds
                if waited_seconds > RATE_LIMIT_PATIENCE_SECONDS:
                    raise Unavailable(f"{self.base_url} answered 429 for {waited_seconds:.0f} s: {limited}") from None
                self._clock.sleep(limited.retry_after_seconds)
            except (Unreachable, Unavailable, Garbled):
                if attempt == ATTEMPTS_MAX:
                    raise
                self._clock.sleep(self._delay_seconds(attempt))
                attempt += 1

    def _delay_seconds(self, attempt: int) -> float:
        return min(RETRY_DELAY_SECONDS_MAX, 0.1 * 2.0**attempt) * self._jitter.uniform(0.5, 1.0)

    def _once(self, method: str, url: str, body: bytes | None, decode: Callable[[bytes], T]) -> T:
        with self._lock:
            self._pace.wait()
            self.requests += 1
        headers = {**self._pool.headers, "content-type": "application/json"} if body is not None else None
        step = Step.LANGFUSE_READ if body is None else Step.LANGFUSE_WRITE
        reach(step, Side.BEFORE)
        try:
            response = self._pool.request(method, url, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            # Also where no answer came: the server may have done what it was asked.
            reach(step, Side.AFTER)
        self.server_date = response.headers.get("date")
        if response.status not in (200, 201, 202, 207):
            raise self._error_of(method, url, response.status, response.headers, response.data)
        try:
            return _decoded(response.data, decode)
        except UNREADABLE as error:
            raise Garbled(
                f"{self.base_url} answered {method} {_path_of(url)} with something that is not Langfuse's JSON "
                f"({error}). Is the address of a Langfuse server right (LANGFUSE_BASE_URL)?"
            ) from error

    def _unreachable(self, error: Exception) -> RemoteError:
        if isinstance(error, urllib3.exceptions.ProtocolError):
            return Unreachable(f"{self.base_url} closed the connection before it had answered. Run again.")
        return Unreachable(
            f"{self.base_url} cannot be reached ({type(error).__name__}). Check LANGFUSE_BASE_URL and the network."
        )

    def _error_of(self, method: str, url: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        said = _read_error(body)
        message = self.told(said.message)
        more = self.told(str(said.error or ""))
        where = f"{self.base_url} answered {status} to {method} {_path_of(url)}"
        if status == 429:
            return _RateLimited(message or where, _retry_after_seconds(headers))
        if status in (401, 403):
            return KeyRefused(f"{where}: {message} Check LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY (and the region).")
        if status in (422, 524):
            return TooMuch(f"{where}: {message}")
        if status == 404 and any(words in said.message for words in MODE_WORDS):
            return WrongMode(f"{where}: {message}")
        if status == 404:
            return NotFound(f"{where}: {message or 'there is no such route; is this a Langfuse server?'}")
        if status >= 500:
            return Unavailable(f"{where}. Its own health page may say more: {self.base_url}/api/public/health")
        return Refused(f"{where}: {message} {more}".rstrip())


class _RateLimited(Exception):
    """The server said 429 and when to come again."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, at least a little: Langfuse sends whole seconds (facts/langfuse.md 7.2)."""
    return wait_seconds(headers.get("retry-after"), least=0.2, most=300.0) or 5.0


def _decoded(body: bytes, decode: Callable[[bytes], T]) -> T:
    """A body as it came, or, where one value of it cannot be read or kept, with that mended."""
    try:
        if NUL not in body:
            return decode(body)
    except UNREADABLE:
        pass
    return decode(mended(body))


def _read_error(body: bytes) -> _ErrorBody:
    try:
        return msgspec.json.decode(body, type=_ErrorBody)
    except UNREADABLE:
        return _ErrorBody()


def _path_of(url: str) -> str:
    """The path of a URL without host and query: messages stay short and hold no values."""
    return "/" + url.split("://", 1)[-1].partition("/")[2].partition("?")[0]
