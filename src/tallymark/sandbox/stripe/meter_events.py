"""Meter events: what Stripe checks, remembers and counts (facts/stripe.md sections 1, 3 and 6)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tallymark.core.clock import HOUR_US, MINUTE_US, SECOND_US, Clock
from tallymark.core.windows import STRIPE_AGE_MAX_US

from .customers import Customers
from .errors import (
    duplicate_identifier,
    invalid,
    missing_param,
    server_error,
    too_new,
    too_old,
)
from .forms import (
    Form,
    optional_choice,
    optional_hash,
    optional_integer,
    optional_text,
    refuse_unknown,
    required_text,
)
from .limits import InFlight
from .meters import Meters
from .shapes import Amount, Json, Meter, MeterEvent, adjustment_json, meter_event_json
from .validation import Validation

_KEYS = frozenset({"event_name", "expand", "identifier", "payload", "timestamp"})
_ADJUSTMENT_KEYS = frozenset({"cancel", "event_name", "expand", "type"})
_AHEAD_MAX_US = 5 * MINUTE_US
_ADJUSTMENT_US = 24 * HOUR_US
# Exponents are undocumented, so they are refused; ".5" and "+5" likewise (facts/stripe.md section 1).
_VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_DIGITS_MAX = 15
_PAYLOAD_VALUE_LENGTH_MAX = 100


@dataclass(slots=True)
class _Breakdown:
    """Calls that are to end in a stored 500."""

    left: int
    counted: bool


class MeterEvents:
    """Takes meter events in and keeps those answered with 200, in order of receipt. Safe to share between threads."""

    def __init__(
        self,
        clock: Clock,
        meters: Meters,
        customers: Customers,
        validation: Validation,
        *,
        livemode: bool,
        identifier_hours: float,
        identifier_free_after_failure: bool,
        process: Callable[[], None],
    ) -> None:
        """`process` is called while a call is in flight, outside any lock."""
        self._clock, self._meters, self._customers, self._validation = clock, meters, customers, validation
        self._livemode, self._process = livemode, process
        self._identifier_us = round(identifier_hours * HOUR_US)
        self._identifier_free_after_failure = identifier_free_after_failure
        self._received: list[MeterEvent] = []
        self._of_customer: dict[tuple[str, str], list[MeterEvent]] = {}
        self._of_identifier: dict[str, MeterEvent] = {}
        self._breakdown = _Breakdown(0, False)
        self._lock = threading.Lock()
        self.in_flight = InFlight()

    def break_next(self, count: int, *, counted: bool) -> None:
        """Let the next `count` valid calls end in a 500 of Stripe's own, after counting them or without."""
        with self._lock:
            self._breakdown = _Breakdown(count, counted)

    def reject_next(self, count: int, code: str, message: str | None) -> None:
        """Let the next `count` meter events be answered with 200 and rejected at their validation."""
        with self._lock:
            self._validation.reject_next(count, code, message)

    def received(self) -> list[MeterEvent]:
        """Every meter event that was answered with 200, also those that are not counted."""
        with self._lock:
            return self._judged(self._received)

    def by_customer(self) -> dict[tuple[str, str], list[MeterEvent]]:
        """Meter events by (customer, meter id), in the order they were received."""
        with self._lock:
            return {key: self._judged(meter_events) for key, meter_events in self._of_customer.items()}

    def of_customer(self, customer: str, meter_id: str) -> list[MeterEvent]:
        """The meter events of one customer and meter, in the order they were received."""
        with self._lock:
            return self._judged(self._of_customer.get((customer, meter_id), ()))

    def _judged(self, meter_events: Iterable[MeterEvent]) -> list[MeterEvent]:
        now_us, judge = self._clock.now_us(), self._validation.judge
        return [one if one.settled else judge(one, now_us) for one in meter_events]

    def create(self, form: Form, _identity: str) -> Json:
        """POST /v1/billing/meter_events. Raises Refusal: 400, 429 when the customer and meter are busy, 500."""
        meter_event = self._read(form)
        with self.in_flight.call((meter_event.customer, meter_event.meter_id)):
            self._process()
            self._take(meter_event)
        return meter_event_json(meter_event, self._livemode)

    def _read(self, form: Form) -> MeterEvent:
        """Check a request and make a meter event of it. Raises Refusal (400)."""
        refuse_unknown(form, _KEYS)
        event_name = required_text(form, "event_name", 100)
        payload = _payload(form)
        identifier = optional_text(form, "identifier", 100)
        now_us = self._clock.now_us()
        timestamp_seconds = _timestamp_seconds(form, now_us)
        meter = self._meters.active(event_name)
        customer, value = _from_payload(payload, meter.customer_key), _amount(payload, meter)
        self._customers.check(customer, meter.customer_key)
        return MeterEvent(
            identifier=identifier or "",
            meter_id=meter.id,
            event_name=event_name,
            customer=customer,
            value=value,
            timestamp_seconds=timestamp_seconds,
            payload=payload,
            received_at_us=now_us,
            validated_at_us=now_us + self._validation.delay_us,
        )

    def _take(self, meter_event: MeterEvent) -> None:
        with self._lock:
            self._refuse_duplicate(meter_event)
            broken = self._break()
            if not broken or self._breakdown.counted:
                self._keep(meter_event)
        if broken:
            raise server_error()

    def _refuse_duplicate(self, meter_event: MeterEvent) -> None:
        # Uniqueness is promised for "at least 24 hours"; afterwards the worst is assumed: it counts again.
        earlier = self._of_identifier.get(meter_event.identifier)
        if earlier is None or meter_event.received_at_us - earlier.received_at_us >= self._identifier_us:
            return
        if not (self._identifier_free_after_failure and self._failed(earlier)):
            raise duplicate_identifier(meter_event.identifier)

    def _failed(self, meter_event: MeterEvent) -> bool:
        now_us = self._clock.now_us()
        return self._validation.judge(meter_event, now_us).failed_by(now_us)

    def _break(self) -> bool:
        if not self._breakdown.left:
            return False
        self._breakdown.left -= 1
        return True

    def _keep(self, meter_event: MeterEvent) -> None:
        self._received.append(meter_event)
        meter_event.identifier = meter_event.identifier or f"sandbox-{len(self._received):08d}"
        self._of_identifier[meter_event.identifier] = meter_event
        self._of_customer.setdefault((meter_event.customer, meter_event.meter_id), []).append(meter_event)
        self._validation.begin(meter_event)

    def adjust(self, form: Form, _identity: str) -> Json:
        """POST /v1/billing/meter_event_adjustments: cancel one within 24 hours of receipt. Raises Refusal (400)."""
        refuse_unknown(form, _ADJUSTMENT_KEYS)
        event_name = required_text(form, "event_name", 100)
        if optional_choice(form, "type", ("cancel",)) is None:
            raise missing_param("type")
        identifier = optional_text(dict(optional_hash(form, "cancel")), "identifier", 100)
        if identifier is None:
            raise missing_param("cancel[identifier]")
        with self._lock:
            meter_event = self._cancellable(event_name, identifier)
            meter_event.cancelled_at_us = self._clock.now_us()
        return adjustment_json(meter_event, self._livemode)

    def _cancellable(self, event_name: str, identifier: str) -> MeterEvent:
        now_us = self._clock.now_us()
        meter_event = self._of_identifier.get(identifier)
        if meter_event is None or meter_event.event_name != event_name or self._failed(meter_event):
            raise invalid(f"No event found with identifier {identifier}.", "cancel[identifier]")
        if now_us - meter_event.received_at_us > _ADJUSTMENT_US:
            raise invalid(f"The event with identifier {identifier} was received more than 24 hours ago.", "cancel")
        return meter_event


def _payload(form: Form) -> Mapping[str, str]:
    if "payload" not in form:
        raise missing_param("payload")
    payload: dict[str, str] = {}
    for key, value in optional_hash(form, "payload").items():
        if not isinstance(value, str) or len(value) > _PAYLOAD_VALUE_LENGTH_MAX:
            limit = _PAYLOAD_VALUE_LENGTH_MAX
            raise invalid(f"Invalid payload: {key} must be a string of at most {limit} characters", "payload")
        payload[key] = value
    return payload


def _timestamp_seconds(form: Form, now_us: int) -> int:
    timestamp_seconds = optional_integer(form, "timestamp")
    if timestamp_seconds is None:
        return now_us // SECOND_US
    oldest_seconds = (now_us - STRIPE_AGE_MAX_US) // SECOND_US
    newest_seconds = (now_us + _AHEAD_MAX_US) // SECOND_US
    if timestamp_seconds < oldest_seconds:
        raise too_old(oldest_seconds)
    if timestamp_seconds > newest_seconds:
        raise too_new(newest_seconds)
    return timestamp_seconds


def _from_payload(payload: Mapping[str, str], key: str) -> str:
    value = payload.get(key)
    if not value:
        raise invalid(f"The event payload must have a value for the key `{key}`.", "payload")
    return value


def _amount(payload: Mapping[str, str], meter: Meter) -> Amount:
    if meter.formula == "count":
        return 1
    text = _from_payload(payload, meter.value_key)
    if not _VALUE.fullmatch(text):
        raise invalid(f"The value in the event payload must be a number. Received `{text}`.", "payload")
    if _digits(text) > _DIGITS_MAX:
        raise invalid(
            f"The value in the event payload can have at most {_DIGITS_MAX} digits. Received `{text}`.", "payload"
        )
    return Decimal(text) if "." in text else int(text)


def _digits(text: str) -> int:
    """Digits without sign, point and leading zeros; trailing zeros count, which is the stricter reading."""
    return len(text.replace(".", "").lstrip("-0"))
