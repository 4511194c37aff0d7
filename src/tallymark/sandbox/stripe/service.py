"""A local Stripe: keys, limits, idempotency and routes around the sandbox's meters, and its own tally."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tallymark.core.clock import SECOND_US, Clock

from ..wire import Request, Response
from .core_events import CoreEvents, Deliver, signature
from .customers import Customers, UnknownCustomer
from .errors import JSON_HEADERS, Refusal, invalid, rate_limited, server_error, unknown_route
from .forms import parse_form
from .idempotency import IdempotencyKeys
from .invoice_items import InvoiceItems
from .invoices import Invoiced, Invoices
from .limits import RateLimit
from .meter_events import MeterEvents
from .meters import Meters
from .own_routes import OwnHandler, own_routes
from .pages import page
from .periods import Every
from .permissions import ApiKeys, Keys
from .request_log import LoggedRequest, RequestLog
from .routes import Handler, Match, Routes
from .shapes import Amount, Meter, MeterEvent, account_json
from .stream import STREAM_PATH, Stream
from .subscriptions import Subscription, Subscriptions
from .summaries import Summaries
from .tally import by_hour, total
from .validation import Validation


class SandboxStripe:
    """A Stripe account on loopback: `handle` answers requests, `tally` says what it counted. Safe for many threads.

    Nothing in it happens by itself: whatever happens later, such as the rejection of a meter event, its report, or the
    end of a billing period, is derived from the clock when somebody asks.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        secret_key: str = "sk_test_sandbox",  # noqa: S107 - the sandbox's own key opens nothing else
        keys: Keys | None = None,
        livemode: bool = False,
        rate_limit_per_second: int | None = None,
        identifier_hours: float = 24,
        identifier_free_after_failure: bool = False,
        any_customer: bool = True,
        unknown_customer: UnknownCustomer = "async",
        processing_seconds: float = 0,
        validation_seconds: float = 5,
        error_samples_max: int = 5,
        summary_lag_seconds: float = 0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """An empty account: plant meters with `add_meter`.

        - `keys`: restricted keys, each with its permissions, such as "meter_events:write" or "meters:read".
        - `identifier_free_after_failure`: whether the identifier of a meter event that was rejected or cancelled can be
          used again within `identifier_hours`; nobody has published which (facts/stripe.md section 1).
        - `processing_seconds`: how long a meter event is in flight; it is spent in `wait`, in real time by default, so
          that calls of a test can overlap even when the clock stands still. All else is measured on `clock`.
        - `validation_seconds`: how long after its receipt a meter event is judged by what is true at that moment.
        - `error_samples_max`: how many meter events of each error code a report names.

        Raises ValueError for a permission that does not exist.
        """
        self._clock, self._livemode = clock, livemode
        self._keys = ApiKeys(secret_key, keys or {})
        self._rate_limit = RateLimit(rate_limit_per_second)
        self._idempotency_keys = IdempotencyKeys()
        self._customers = Customers(clock, livemode=livemode, any_customer=any_customer, unknown=unknown_customer)
        self._meters = Meters(clock, livemode)
        self._meter_events = MeterEvents(
            clock,
            self._meters,
            self._customers,
            Validation(self._meters, self._customers, validation_seconds),
            livemode=livemode,
            identifier_hours=identifier_hours,
            identifier_free_after_failure=identifier_free_after_failure,
            process=lambda: wait(processing_seconds) if processing_seconds else None,
        )
        self._stream = Stream(clock, self._meter_events, livemode=livemode)
        self._summaries = Summaries(
            clock, self._meters, self._meter_events, livemode=livemode, lag_seconds=summary_lag_seconds
        )
        self._core_events = CoreEvents(clock, self._meter_events, livemode=livemode, samples_max=error_samples_max)
        self._subscriptions = Subscriptions(clock, livemode)
        self._invoices = Invoices(
            clock,
            self._meters,
            self._meter_events,
            self._subscriptions,
            InvoiceItems(clock, self._customers),
            livemode=livemode,
        )
        self._routes, self._own_routes = Routes(self._api()), own_routes(self)
        self._numbers = itertools.count(1)
        self._request_log = RequestLog()

    def _api(self) -> dict[str, Handler]:
        meters, meter_events, customers = self._meters, self._meter_events, self._customers
        core_events, subscriptions, invoices = self._core_events, self._subscriptions, self._invoices
        return {
            "POST /v1/billing/meter_events": meter_events.create,
            "POST /v1/billing/meter_event_adjustments": meter_events.adjust,
            "POST /v2/billing/meter_events": meter_events.create_v2,
            "POST /v2/billing/meter_event_session": self._stream.open_session,
            f"POST {STREAM_PATH}": self._stream.take,
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
            "GET /v1/subscriptions": subscriptions.list,
            "GET /v1/subscriptions/{id}": subscriptions.get,
            "GET /v1/subscription_items": subscriptions.items,
            "GET /v1/prices/{id}": subscriptions.price,
            "GET /v1/invoices": invoices.list,
            "GET /v1/invoices/{id}": invoices.get,
            "GET /v1/invoiceitems": invoices.list_items,
            "POST /v1/invoiceitems": invoices.create_item,
            "GET /v2/core/events": core_events.list,
            "GET /v2/core/events/{id}": core_events.get,
            "GET /v1/charges": lambda form, _identity: page(form, (), "/v1/charges"),
            "GET /v1/account": lambda _form, _identity: account_json(self._livemode),
        }

    def handle(self, request: Request) -> Response:
        """Answer one request. `/sandbox/...` needs no key and leaves no trace in the log."""
        own = self._own_routes.get(f"{request.method} {request.path}")
        if own is not None:
            return _own_answer(own, request)
        match = self._routes.match(request.method, request.path)
        response = self._identified(self._answer(request, match))
        route = match.name if match else f"{request.method} (unknown)"
        self._request_log.add(route, request, response.status, self._clock.now_us())
        return response

    def _answer(self, request: Request, match: Match | None) -> Response:
        try:
            self._authorize(request)
            self._rate_limit.take(self._clock.now_us())
            if match is None:
                raise unknown_route(request.method, request.path)
            route = match
            return self._idempotency_keys.answer(request, self._clock.now_us(), lambda: _execute(route, request))
        except Refusal as refusal:
            return _refused(refusal, request)

    def _authorize(self, request: Request) -> None:
        """Raises Refusal: 401 for a wrong key, 403 for one that may not do this. The stream knows sessions only."""
        authorization = request.headers.get("authorization", "")
        if request.path == STREAM_PATH:
            self._stream.check(authorization)
        else:
            self._keys.allow(self._keys.check(authorization), request.method, request.path)

    def _identified(self, response: Response) -> Response:
        headers = {**response.headers, "request-id": f"req_sandbox_{next(self._numbers):08d}"}
        return Response(response.status, response.body, headers)

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

    def add_customer(self, customer_id: str, *, livemode: bool | None = None) -> None:
        """Plant a customer; one of the other mode does not exist for the keys of this account."""
        if livemode in (None, self._livemode):
            self._customers.add(customer_id)
        else:
            self._customers.add_in_other_mode(customer_id)

    def add_subscription(
        self,
        customer: str,
        event_name: str,
        *,
        started_at_us: int,
        period: Every = "month",
        anchor_us: int | None = None,
        unit_amount_decimal: Decimal | str = "1",
        grace_hours: float = 1,
        ends_at_us: int | None = None,
        currency: str = "usd",
    ) -> Subscription:
        """Plant a subscription to a price of the meter of that event name, at `unit_amount_decimal` cents a unit.

        Its periods are counted from `anchor_us`, by default from its start; a number as `period` is seconds. At the end
        of each a draft invoice is made, which is final `grace_hours` later. It is cancelled at `ends_at_us`: at the end
        of a period that period is billed, within one it is not (facts/stripe.md section 7). Moments are µs since 1970.
        Raises ValueError for what is no period or no end, and Refusal if there is no active meter.
        """
        return self._subscriptions.plant(
            customer,
            self._meters.active(event_name).id,
            started_at_us=started_at_us,
            period=period,
            anchor_us=anchor_us,
            unit_amount_decimal=unit_amount_decimal,
            grace_hours=grace_hours,
            ends_at_us=ends_at_us,
            currency=currency,
        )

    def break_next(self, count: int = 1, *, counted: bool) -> None:
        """Let the next `count` valid meter events end in a 500, stored under their Idempotency-Key.

        `counted` says whether Stripe counted them first. Unlike a fault between client and service, a retry with the
        same key gets the same 500 again (facts/stripe.md section 6).
        """
        self._meter_events.break_next(count, counted=counted)

    def reject_next(self, count: int = 1, code: str = "meter_event_invalid_value", message: str | None = None) -> None:
        """Let the next `count` valid meter events be answered with 200 and rejected at their validation.

        `code` is any of facts/stripe.md section 2, or another; "no_meter" is reported without a meter.
        """
        self._meter_events.reject_next(count, code, message)

    def expire_sessions(self) -> None:
        """End the sessions of the meter event stream now; the next call with one of them gets 401."""
        self._stream.expire()

    def notifications(self, since_us: int = 0) -> list[bytes]:
        """The bodies of the webhooks on error reports of the last 30 days created since then, in order of creation."""
        return list(self._core_events.notifications(since_us).values())

    def sign(self, body: bytes, secret: str, at_seconds: int | None = None) -> str:
        """The Stripe-Signature header of a webhook's body, signed at a unix time, by default the clock's."""
        return signature(body, secret, self._clock.now_us() // SECOND_US if at_seconds is None else at_seconds)

    def push(self, deliver: Deliver, secret: str) -> Sequence[int]:
        """Deliver the notifications that were not yet answered with 2xx, each once; the statuses of the answers.

        `deliver` gets the body and the Stripe-Signature header, and returns a status. For duplicates and disorder call
        it yourself with what `notifications` and `sign` give.
        """
        return self._core_events.push(deliver, secret)

    def tally(self) -> dict[tuple[str, str], Amount]:
        """What was counted: (customer, event_name) → the meter's formula over its meter events.

        A meter event that will be rejected is never counted, not even before its validation, as far as can be known:
        one whose customer does not exist is not counted, and is as soon as the customer is made in time.
        """
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
        """Those answered with 200 that are rejected, or will be as things stand: never counted."""
        return [one for one in self._meter_events.received() if one.rejected_later]

    def invoiced(self, customer: str | None = None) -> Sequence[Invoiced]:
        """What the final invoices of a customer, or of all, bill, the oldest first."""
        return self._invoices.invoiced(customer)

    def lost(self) -> Sequence[MeterEvent]:
        """Counted meter events that came after the invoice of their period was final: they are on no invoice."""
        return self._invoices.lost()

    def unbilled(self) -> Sequence[MeterEvent]:
        """Counted meter events that lie in no billed period of a subscription: they are on no invoice either."""
        return self._invoices.unbilled()

    def max_in_flight(self) -> dict[tuple[str, str], int]:
        """(customer, meter id) → the most calls that were ever in flight at once, refused ones included."""
        return self._meter_events.in_flight.most()

    def requests(self) -> list[LoggedRequest]:
        """The last 100,000 requests, in the order of their answers."""
        return self._request_log.requests()

    def counts(self) -> dict[str, int]:
        """Requests by "METHOD /template" since the start or the last `clear_requests`."""
        return self._request_log.counts()

    def clear_requests(self) -> None:
        """Forget the logged requests and their counts; nothing else."""
        self._request_log.clear()


def _execute(match: Match, request: Request) -> Response:
    try:
        return _json_response(match.handler(_form(request), match.identity))
    except Refusal as refusal:
        return _refused(refusal, request)


def _refused(refusal: Refusal, request: Request) -> Response:
    return refusal.response(v2=_is_v2(request))


def _own_answer(handler: OwnHandler, request: Request) -> Response:
    try:
        return _json_response(handler(request))
    except Refusal as refusal:
        return refusal.response()
    except ValueError as problem:
        return invalid(str(problem)).response()


def _form(request: Request) -> Any:
    """The parameters of a request: a form, or the JSON of what is posted to v2. Raises Refusal (400)."""
    if request.method == "GET":
        return parse_form(request.query)
    if _is_v2(request):
        return _read_json(request.body)
    return parse_form(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))


def _read_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body or b"{}")
    except ValueError as error:
        raise invalid(f"The body is no JSON: {error}") from error


def _is_v2(request: Request) -> bool:
    return request.path.startswith("/v2/")


def _json_response(content: Any) -> Response:
    return Response(200, msgspec.json.encode(content), JSON_HEADERS)
