"""The v2 meter event stream: sessions of 15 minutes, up to 100 meter events a call (facts/stripe.md section 5)."""

from __future__ import annotations

import itertools
import secrets
import threading

import msgspec

from tallymark.core.clock import MINUTE_US, Clock

from .errors import invalid, no_key, session_expired, wrong_token
from .meter_events import MeterEvents, MeterEventV2
from .permissions import key_of
from .shapes import Json, session_json

STREAM_PATH = "/v2/billing/meter_event_stream"
_SESSION_US = 15 * MINUTE_US
_EVENTS_MAX = 100


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[MeterEventV2]


class Stream:
    """Takes meter events in without a look at them. Safe to share between threads."""

    def __init__(self, clock: Clock, meter_events: MeterEvents, *, livemode: bool) -> None:
        self._clock, self._meter_events, self._livemode = clock, meter_events, livemode
        self._expires_at_us: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def open_session(self, _body: Json, _identity: str) -> Json:
        """POST /v2/billing/meter_event_session: a token that opens the stream for 15 minutes."""
        now_us, token = self._clock.now_us(), f"sandbox_session_{secrets.token_hex(16)}"
        with self._lock:
            self._expires_at_us[token] = now_us + _SESSION_US
        return session_json(token, next(self._numbers), now_us, now_us + _SESSION_US, self._livemode)

    def check(self, authorization: str) -> None:
        """Raises Refusal (401) for no token, an unknown one, or one whose 15 minutes are over."""
        token = key_of(authorization)
        if not token:
            raise no_key()
        with self._lock:
            expires_at_us = self._expires_at_us.get(token)
        if expires_at_us is None:
            raise wrong_token()
        if self._clock.now_us() >= expires_at_us:
            raise session_expired()

    def expire(self) -> None:
        """End all sessions now, as Stripe may at any time."""
        with self._lock:
            self._expires_at_us = dict.fromkeys(self._expires_at_us, 0)

    def take(self, body: Json, _identity: str) -> Json:
        """POST /v2/billing/meter_event_stream. Raises Refusal (400) only for what is no list of meter events."""
        try:
            events = msgspec.convert(body, _Batch).events
        except msgspec.ValidationError as error:
            raise invalid(str(error)) from error
        if not 0 < len(events) <= _EVENTS_MAX:
            raise invalid(f"events: between 1 and {_EVENTS_MAX} are allowed")
        self._meter_events.stream(events)
        return {}
