"""A local Stripe: keys, limits, idempotency and routes around the sandbox's meters, and its own tally."""

from __future__ import annotations

import base64
import binascii
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tallymark.core.clock import SECOND_US, Clock

from ..wire import Request, Response
from .customers import Customers, UnknownCustomer
from .errors import (
    JSON_HEADERS,
    Refusal,
    no_key,
    rate_limited,
    server_error,
    unknown_route,
    wrong_key,
)
from .forms import Form, parse_form
from .idempotency import IdempotencyKeys
from .limits import RateLimit
from .meter_events import MeterEvents
from .meters import Meters
from .routes import Handler, Match, Routes
from .shapes import Amount, Meter, MeterEvent, account_json
from .summaries import Summaries
from .tally import by_hour, total

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


class SandboxStripe:
    """A Stripe account on loopback: `handle` answers requests, `tally` says what it counted. Safe for many threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        secret_key: str = "sk_test_sandbox",  # noqa: S107 - the sandbox's own key opens nothing else
        livemode: bool = False,
        rate_limit_per_second: int | None = None,
        identifier_hours: float = 24,
        any_customer: bool = True,
        unknown_customer: UnknownCustomer = "async",
        processing_seconds: float = 0,
        summary_lag_seconds: float = 0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """An empty account: plant meters with `add_meter`.

        Every limit is measured on `clock`. `processing_seconds` is how long a meter event is in flight; it is spent in
        `wait`, in real time by default, so that calls of a test can overlap even when the clock stands still.
        """
        self._clock, self._secret_key = clock, secret_key
        self._rate_limit = RateLimit(rate_limit_per_second)
        self._idempotency_keys = IdempotencyKeys()
        self._customers = Customers(clock, livemode=livemode, any_customer=any_customer, unknown=unknown_customer)
        self._meters = Meters(clock, livemode)
        self._meter_events = MeterEvents(
            clock,
            self._meters,
            self._customers,
            livemode=livemode,
            identifier_hours=identifier_hours,
            process=lambda: wait(processing_seconds) if processing_seconds else None,
        )
        self._summaries = Summaries(
            clock, self._meters, self._meter_events, livemode=livemode, lag_seconds=summary_lag_seconds
        )
        self._livemode = livemode
        self._routes, self._own_routes = Routes(self._api()), Routes(self._own())
        self._numbers = itertools.count(1)
        self._requests: deque[LoggedRequest] = deque(maxlen=_LOGGED_MAX)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def _api(self) -> dict[str, Handler]:
        meters, meter_events, customers = self._meters, self._meter_events, self._customers
        return {
            "POST /v1/billing/meter_events": meter_events.create,
            "POST /v1/billing/meter_event_adjustments": meter_events.adjust,
            "GET /v1/billing/meters": meters.list,
            "POST /v1/billing/meters": meters.create,
            "GET /v1/billing/meters/{id}": meters.get,
            "POST /v1/billing/meters/{id}": meters.update,
            "POST /v1/billing/meters/{id}/deactivate": meters.deactivate,
            "POST /v1/billing/meters/{id}/reactivate": meters.reactivate,
            "GET /v1/billing/meters/{id}/event_summaries": self._summaries.list,
            "GET /v1/customers": customers.list,
            "POST /v1/customers": customers.create,
            "GET /v1/customers/{id}": customers.get,
            "GET /v1/account": lambda _form, _identity: account_json(self._livemode),
        }

    def _own(self) -> dict[str, Handler]:
        return {
            "GET /sandbox/tally": lambda _form, _identity: [
                {"customer": customer, "event_name": event_name, "value": value}
                for (customer, event_name), value in self.tally().items()
            ],
            "GET /sandbox/requests": lambda _form, _identity: {
                "counts": self.counts(),
                "requests": [asdict(request) for request in self.requests()],
            },
            "GET /sandbox/meter_events": lambda _form, _identity: [asdict(one) for one in self.meter_events()],
        }

    def handle(self, request: Request) -> Response:
        """Answer one request. `/sandbox/...` needs no key and leaves no trace in the log."""
        own = self._own_routes.match(request.method, request.path)
        if own is not None:
            return _json_response(own.handler({}, own.identity))
        match = self._routes.match(request.method, request.path)
        response = self._identified(self._answer(request, match))
        self._log(request, match, response.status)
        return response

    def _answer(self, request: Request, match: Match | None) -> Response:
        try:
            self._check_key(request)
            self._rate_limit.take(self._clock.now_us())
            if match is None:
                raise unknown_route(request.method, request.path)
            route = match
            return self._idempotency_keys.answer(request, self._clock.now_us(), lambda: _execute(route, request))
        except Refusal as refusal:
            return refusal.response()

    def _check_key(self, request: Request) -> None:
        key = key_of(request.headers.get("authorization", ""))
        if not key:
            raise no_key()
        if key != self._secret_key:
            raise wrong_key(key)

    def _identified(self, response: Response) -> Response:
        headers = {**response.headers, "request-id": f"req_sandbox_{next(self._numbers):08d}"}
        return Response(response.status, response.body, headers)

    def _log(self, request: Request, match: Match | None, status: int) -> None:
        route = match.name if match else f"{request.method} (unknown)"
        logged = LoggedRequest(route, request.path, request.query, status, self._clock.now_us())
        with self._lock:
            self._counts[route] += 1
            self._requests.append(logged)

    def refusal(self, status: int) -> Response:
        """Stripe's words for a refusal that a fault asks for: 429 or a 5xx."""
        return self._identified((rate_limited() if status == 429 else server_error(status)).response())

    def add_meter(
        self,
        event_name: str,
        *,
        display_name: str | None = None,
        formula: str = "sum",
        customer_key: str = "stripe_customer_id",
        value_key: str = "value",
        window: str | None = None,
        active: bool = True,
    ) -> Meter:
        """Plant a meter, even a second one of the same event name, which the API would refuse."""
        return self._meters.plant(
            event_name,
            display_name=display_name,
            formula=formula,
            customer_key=customer_key,
            value_key=value_key,
            window=window,
            active=active,
        )

    def add_customer(self, customer_id: str) -> None:
        """Plant a customer."""
        self._customers.add(customer_id)

    def break_next(self, count: int = 1, *, counted: bool) -> None:
        """Let the next `count` valid meter events end in a 500, stored under their Idempotency-Key.

        `counted` says whether Stripe counted them first. Unlike a fault between client and service, a retry with the
        same key gets the same 500 again (facts/stripe.md section 6).
        """
        self._meter_events.break_next(count, counted=counted)

    def tally(self) -> dict[tuple[str, str], Amount]:
        """What was counted: (customer, event_name) → the meter's formula over its meter events."""
        result: dict[tuple[str, str], Amount] = {}
        for (customer, meter_id), meter_events in self._meter_events.by_customer().items():
            meter = self._meters.find(meter_id)
            key = (customer, meter.event_name)
            result[key] = result.get(key, 0) + total(meter, meter_events)
        return result

    def tally_by_hour(self) -> dict[tuple[str, str, int], Amount]:
        """What was counted by UTC hour of the timestamp: (customer, event_name, start of the hour in µs) → value."""
        result: dict[tuple[str, str, int], Amount] = {}
        for (customer, meter_id), meter_events in self._meter_events.by_customer().items():
            meter = self._meters.find(meter_id)
            for start_seconds, inside in by_hour(meter_events):
                key = (customer, meter.event_name, start_seconds * SECOND_US)
                result[key] = result.get(key, 0) + total(meter, inside)
        return result

    def meter_events(self) -> list[MeterEvent]:
        """Every meter event that was answered with 200, in order of receipt."""
        return self._meter_events.received()

    def rejected_later(self) -> list[MeterEvent]:
        """Those whose customer does not exist: answered with 200, never counted."""
        return [one for one in self._meter_events.received() if one.rejected_later]

    def max_in_flight(self) -> dict[tuple[str, str], int]:
        """(customer, meter id) → the most calls that were ever in flight at once, refused ones included."""
        return self._meter_events.in_flight.most()

    def requests(self) -> list[LoggedRequest]:
        """The last 100,000 requests, in the order of their answers."""
        with self._lock:
            return list(self._requests)

    def counts(self) -> dict[str, int]:
        """Requests by "METHOD /template" since the start or the last `clear_requests`."""
        with self._lock:
            return dict(self._counts)

    def clear_requests(self) -> None:
        """Forget the logged requests and their counts; nothing else."""
        with self._lock:
            self._requests.clear()
            self._counts.clear()


def key_of(authorization: str) -> str:
    """The API key in a Bearer or Basic header; empty if there is none that can be read."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _execute(match: Match, request: Request) -> Response:
    try:
        return _json_response(match.handler(_form(request), match.identity))
    except Refusal as refusal:
        return refusal.response()


def _form(request: Request) -> Form:
    if request.method == "GET":
        return parse_form(request.query)
    return parse_form(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))


def _json_response(content: Any) -> Response:
    return Response(200, msgspec.json.encode(content), JSON_HEADERS)
