"""The v2 core events of the account, and the webhooks on them (facts/stripe.md section 2)."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from tallymark.core.clock import DAY_US, SECOND_US, Clock, format_time, parse_time

from .errors import invalid, no_such
from .forms import Form, flatten, optional_hash, optional_text, refuse_unknown
from .meter_events import MeterEvents
from .pages import limit_of
from .reports import CoreEvent, reports
from .shapes import Json

Deliver = Callable[[bytes, str], int]
"""Takes the body of a notification and its Stripe-Signature header; returns the status it was answered with."""

_URL = "/v2/core/events"
_KEYS = frozenset({"created", "limit", "object_id", "page", "types"})
_KEPT_US = 30 * DAY_US
_TYPES_MAX = 20
# Nobody has published the default; clients that follow `next_page_url` do not depend on it.
_LIMIT_DEFAULT = 20
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}


class CoreEvents:
    """Error reports as the v2 API shows them, for 30 days. Safe to share between threads."""

    def __init__(self, clock: Clock, meter_events: MeterEvents, *, livemode: bool, samples_max: int) -> None:
        self._clock, self._meter_events = clock, meter_events
        self._livemode, self._samples_max = livemode, samples_max
        self._delivered: set[str] = set()
        self._delivering = threading.Lock()

    def created(self) -> Sequence[CoreEvent]:
        """Those of the last 30 days, in order of creation."""
        now_us = self._clock.now_us()
        # One that was cancelled before its validation is nobody's error.
        rejected = [one for one in self._meter_events.received() if one.rejection and one.cancelled_at_us is None]
        return [one for one in reports(rejected, self._samples_max) if now_us - _KEPT_US < one.created_us <= now_us]

    def list(self, form: Form, _identity: str) -> Json:
        """GET /v2/core/events: the newest first, without their `data`, which only retrieving one is sure to show."""
        refuse_unknown(form, _KEYS)
        limit, page = limit_of(form, _LIMIT_DEFAULT), optional_text(form, "page")
        found = self._wanted(form)
        start = 0 if page is None else _position_after(found, page)
        shown, more = found[start : start + limit], len(found) > start + limit
        return {
            "data": [self.notification_json(one) for one in shown],
            "next_page_url": _next_page_url(form, shown[-1]) if more else None,
            "previous_page_url": None,
        }

    def _wanted(self, form: Form) -> Sequence[CoreEvent]:
        """Those that pass the filters, the newest first. Raises Refusal (400) for a filter that is none."""
        types, object_id = set(optional_hash(form, "types").values()), optional_text(form, "object_id")
        if len(types) > _TYPES_MAX:
            raise invalid(f"types: at most {_TYPES_MAX} are allowed", "types")
        bounds = _bounds(form)
        return [
            one
            for one in reversed(self.created())
            if (not types or one.type in types)
            and object_id in (None, one.meter_id)
            and all(compare(one.created_us, moment_us) for compare, moment_us in bounds)
        ]

    def get(self, _form: Form, identity: str) -> Json:
        """GET /v2/core/events/{id}, with its `data`. Raises Refusal (404), also after 30 days."""
        for one in self.created():
            if one.id == identity:
                return {**self.notification_json(one), "data": one.data}
        raise no_such("event", identity, "id")

    def notification_json(self, core_event: CoreEvent) -> Json:
        """A thin event: all but the `data`."""
        meter_id = core_event.meter_id
        related = {"id": meter_id, "type": "billing.meter", "url": f"/v1/billing/meters/{meter_id}"}
        return {
            "id": core_event.id,
            "object": "v2.core.event",
            "context": None,
            "created": format_time(core_event.created_us),
            "livemode": self._livemode,
            "reason": None,
            "related_object": None if meter_id is None else related,
            "type": core_event.type,
        }

    def notifications(self, since_us: int) -> Mapping[str, bytes]:
        """The bodies of the notifications of events created since then, by event id, in order of creation."""
        return {
            one.id: msgspec.json.encode(self.notification_json(one))
            for one in self.created()
            if one.created_us >= since_us
        }

    def push(self, deliver: Deliver, secret: str) -> Sequence[int]:
        """Deliver each notification that was not yet answered with 2xx, once; the statuses of the answers."""
        with self._delivering:
            due = {key: body for key, body in self.notifications(0).items() if key not in self._delivered}
            answers = {key: deliver(body, signature(body, secret, self._now_seconds())) for key, body in due.items()}
            self._delivered.update(key for key, status in answers.items() if 200 <= status < 300)
            return list(answers.values())

    def _now_seconds(self) -> int:
        return self._clock.now_us() // SECOND_US


def signature(body: bytes, secret: str, at_seconds: int) -> str:
    """The Stripe-Signature header of a webhook's body, signed at that unix time (facts/stripe.md section 2)."""
    signed = hmac.new(secret.encode(), f"{at_seconds}.".encode() + body, hashlib.sha256)
    return f"t={at_seconds},v1={signed.hexdigest()}"


def _bounds(form: Form) -> list[tuple[Callable[[int, int], bool], int]]:
    """The comparisons that `created` must pass, each with its moment in µs. Raises Refusal (400)."""
    try:
        asked = optional_hash(form, "created").items()
        return [(_COMPARISONS[name], parse_time(str(moment))) for name, moment in asked]
    except (KeyError, ValueError):
        raise invalid("created: must hold gt, gte, lt or lte, each an RFC 3339 time", "created") from None


def _position_after(core_events: Sequence[CoreEvent], page: str) -> int:
    for position, core_event in enumerate(core_events, 1):
        if core_event.id == page:
            return position
    raise invalid("page: not a page of this list", "page")


def _next_page_url(form: Form, last: CoreEvent) -> str:
    return f"{_URL}?{urlencode([*flatten({**form, 'page': last.id})])}"
