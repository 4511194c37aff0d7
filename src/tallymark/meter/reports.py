"""Stripe's reports of meter events that it took and did not count: webhooks, and the v2 core events to poll.

A notification names its report only; the report is fetched. Facts: facts/stripe.md section 2.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import msgspec

from ..core.clock import MINUTE_US, SECOND_US, format_time, parse_time
from ..core.reports import (
    CHANGE_TYPES,
    REPORT_TYPES,
    UNKNOWN_CODE,
    CustomerChange,
    ErrorReport,
    Notification,
    ReportedError,
    Sample,
)
from ..core.secrets import told
from ..errors import NotificationRefused
from .stripe_events import StripeMeter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stripe

PAGE_ROWS = 100
NEEDS = "grant Events: read (Stripe: Developers, API keys)"
# Stripe's own tolerance; the SDK checks it by the machine's clock, and only backwards.
SIGNATURE_AGE_MAX_US = 5 * MINUTE_US
UNSIGNED = (
    "the webhook's signature is missing or wrong; check BILLING_STRIPE_WEBHOOK_SECRET, and pass the body as it came."
)
# Times of Stripe beyond the year 9000 are none, and would not fit into the ledger.
SECONDS_MAX = 221_845_392_000
_SIGNED_AT = re.compile(r"(?:^|,)t=([0-9]{1,12})(?:,|$)")


class _Related(msgspec.Struct):
    id: str


class _Kind(msgspec.Struct):
    type: str


class _Thin(msgspec.Struct):
    id: str
    type: str
    created: str
    related_object: _Related | None = None


class _Object(msgspec.Struct):
    customer: str | _Related | None = None


class _ObjectData(msgspec.Struct):
    object: _Object


class _Snapshot(msgspec.Struct):
    """A webhook that holds the object as it was; of that only whose it is, is believed."""

    created: Annotated[int, msgspec.Meta(ge=0, le=SECONDS_MAX)]
    data: _ObjectData


class _Request(msgspec.Struct):
    identifier: str | None = None
    idempotency_key: str | None = None


class _Sample(msgspec.Struct):
    request: _Request
    error_message: str = ""


class _Error(msgspec.Struct):
    code: str
    error_count: int = 0
    sample_errors: list[_Sample] = []


class _Reason(msgspec.Struct):
    error_count: int = 0
    error_types: list[_Error] = []


class _Data(msgspec.Struct):
    validation_start: str
    validation_end: str
    reason: _Reason


def read_notification(
    body: bytes, signature: str | None, secrets: Sequence[str], now_us: int
) -> Notification | CustomerChange | None:
    """What a webhook's raw body and its header Stripe-Signature tell; None for a type that nobody waits for.

    Raises NotificationRefused if Stripe did not sign it with one of these secrets within five minutes of now.
    """
    _verify(body, signature or "", secrets, now_us)
    try:
        kind = msgspec.json.decode(body, type=_Kind).type
        if kind in CHANGE_TYPES:
            return _change(msgspec.json.decode(body, type=_Snapshot))
        return _notification(msgspec.json.decode(body, type=_Thin)) if kind in REPORT_TYPES else None
    except ValueError as error:
        raise NotificationRefused("the webhook's body is not what Stripe sends.") from error


def _verify(body: bytes, signature: str, secrets: Sequence[str], now_us: int) -> None:
    # The SDK fails on other text with a TypeError.
    if not signature.isascii() or not any(_is_signed(body, signature, secret) for secret in secrets):
        raise NotificationRefused(UNSIGNED)
    signed_at = _SIGNED_AT.search(signature)
    if signed_at is None or abs(int(signed_at[1]) * SECOND_US - now_us) > SIGNATURE_AGE_MAX_US:
        raise NotificationRefused("the webhook was signed too long ago, or this machine's clock is wrong (NTP).")


def _is_signed(body: bytes, signature: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body, signature, secret, tolerance=None)
    except (stripe.SignatureVerificationError, ValueError):
        # A ValueError: a body that is no text, or a time that is no number.
        return False
    return True


def new_notifications(meter: StripeMeter, since_us: int) -> Iterator[Notification]:
    """All reports since a moment, the newest first. Raises KeyRefused, Unreachable or Unavailable."""
    next_page: str | None = ""
    while next_page is not None:
        notifications, next_page = meter.patiently(partial(_page, meter, since_us, next_page), NEEDS)
        yield from notifications


def _page(meter: StripeMeter, since_us: int, next_page: str) -> tuple[list[Notification], str | None]:
    """One page, and the address of the next one."""
    client = meter.client
    if next_page:
        page: Any = client.deserialize(client.raw_request("get", next_page), api_mode="V2")
    else:
        page = client.v2.core.events.list(
            {"types": list(REPORT_TYPES), "created": {"gt": format_time(since_us)}, "limit": PAGE_ROWS}
        )
    return [_notification(msgspec.convert(event.to_dict(), _Thin)) for event in page.data], page.next_page_url


def fetch_report(meter: StripeMeter, notification: Notification, event_names: Mapping[str, str]) -> ErrorReport:
    """What a notification reports. `event_names` are those of the account's meters, by id.

    A report that Stripe no longer has, or that is not as documented, speaks of one meter event and names none.
    Raises KeyRefused, Unreachable or Unavailable.
    """
    content = meter.patiently(partial(_fetch, meter, notification.notification_id), NEEDS)
    try:
        data = msgspec.convert(content, _Data)
        start_us, end_us, errors = parse_time(data.validation_start), parse_time(data.validation_end), _errors(data)
    except ValueError:
        start_us, end_us = notification.created_us, notification.created_us
        errors = (ReportedError(UNKNOWN_CODE, 1, ()),)
    meter_id = notification.meter_id
    name = event_names.get(meter_id, "")
    return ErrorReport(notification.notification_id, notification.type, meter_id, name, start_us, end_us, errors)


def _fetch(meter: StripeMeter, notification_id: str) -> Any:
    """The data of a report as plain values; None if Stripe does not have it any more."""
    try:
        return meter.client.v2.core.events.retrieve(notification_id).to_dict().get("data")
    except stripe.InvalidRequestError as error:
        if error.http_status == 404:
            return None
        raise


def _errors(data: _Data) -> tuple[ReportedError, ...]:
    """The errors of a report; where its count is larger than theirs, the difference has no known code."""
    errors = tuple(
        ReportedError(error.code, max(error.error_count, len(error.sample_errors)), _samples(error))
        for error in data.reason.error_types
    )
    rest = data.reason.error_count - sum(error.count for error in errors)
    return (*errors, ReportedError(UNKNOWN_CODE, rest, ())) if rest > 0 else errors


def _samples(error: _Error) -> tuple[Sample, ...]:
    return tuple(
        Sample(one.request.identifier or one.request.idempotency_key or "", told(one.error_message))
        for one in error.sample_errors
    )


def _change(snapshot: _Snapshot) -> CustomerChange | None:
    """None for an invoice of nobody. Raises ValueError for a customer that cannot be one."""
    customer = snapshot.data.object.customer
    if customer is None:
        return None
    customer_id = customer if isinstance(customer, str) else customer.id
    if not (customer_id.isascii() and customer_id.isprintable()):
        raise ValueError("that is no id of a customer")
    return CustomerChange(customer_id, snapshot.created * SECOND_US)


def _notification(thin: _Thin) -> Notification:
    """Raises ValueError for a time that is none."""
    return Notification(
        thin.id, thin.type, parse_time(thin.created), thin.related_object.id if thin.related_object else ""
    )
