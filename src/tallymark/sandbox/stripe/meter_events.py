"""Meter events: what Stripe checks, remembers and counts (facts/stripe.md sections 1, 3, 5 and 6)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from tallymark.core.clock import HOUR_US, MINUTE_US, SECOND_US, Clock, parse_time
from tallymark.core.windows import STRIPE_AGE_MAX_US

from .customers import Customers
from .errors import (
    Refusal,
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
from .shapes import (
    Amount,
    Json,
    Meter,
    MeterEvent,
    Rejection,
    adjustment_json,
    meter_event_json,
    meter_event_v2_json,
)
from .validation import Validation

_KEYS = frozenset({"event_name", "expand", "identifier", "payload", "timestamp"})
_ADJUSTMENT_KEYS = frozenset({"cancel", "event_name", "expand", "type"})
_AHEAD_MAX_US = 5 * MINUTE_US
_ADJUSTMENT_US = 24 * HOUR_US
# Exponents are undocumented, so they are refused; ".5" and "+5" likewise (facts/stripe.md section 1).
_VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_DIGITS_MAX = 15
_INVALID_VALUE = "meter_event_invalid_value"
_PAYLOAD_VALUE_LENGTH_MAX = 100


class MeterEventV2(msgspec.Struct, forbid_unknown_fields=True):
    """A meter event as JSON: of v2, and of the stream. A number in its payload must be text."""

    event_name: str
    payload: dict[str, str]
    identifier: str | None = None
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks to be counted, of whatever API. `timestamp_seconds` None: now."""

    event_name: str
    payload: Mapping[str, str]
    identifier: str
    timestamp_seconds: int | None


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
        meter_event = self._checked(_asked_by_form(form))
        self._process_and_take(meter_event)
        return meter_event_json(meter_event, self._livemode)

    def create_v2(self, body: Json, _identity: str) -> Json:
        """POST /v2/billing/meter_events: the same in JSON, with a code for each refusal (facts/stripe.md section 5)."""
        meter_event = self._checked(_asked_by_json(_read_v2(body)))
        self._process_and_take(meter_event)
        return meter_event_v2_json(meter_event, self._livemode)

    def stream(self, meter_events: Iterable[MeterEventV2]) -> None:
        """Take in what came through the stream: nothing is refused, all that is wrong is reported later.

        A second one of an identifier is dropped without a word, as no code of a report is for that (section 2).
        """
        for wanted in meter_events:
            meter_event = self._checked_later(wanted)
            with self._lock:
                if not (meter_event.identifier and self._is_duplicate(meter_event)):
                    self._keep(meter_event)

    def _process_and_take(self, meter_event: MeterEvent) -> None:
        self._customers.check(meter_event.customer, self._meters.find(meter_event.meter_id).customer_key)
        with self.in_flight.call((meter_event.customer, meter_event.meter_id)):
            self._process()
            self._take(meter_event)

    def _checked(self, asked: _Asked) -> MeterEvent:
        """Check what is asked and make a meter event of it. Raises Refusal (400)."""
        now_us = self._clock.now_us()
        timestamp_seconds = _timestamp_seconds(asked, now_us)
        meter = self._meters.active(asked.event_name)
        customer, value = _customer(asked.payload, meter), _amount(asked.payload, meter)
        return MeterEvent(
            identifier=asked.identifier,
            meter_id=meter.id,
            event_name=asked.event_name,
            customer=customer,
            value=value,
            timestamp_seconds=timestamp_seconds,
            payload=asked.payload,
            received_at_us=now_us,
            validated_at_us=now_us + self._validation.delay_us,
        )

    def _checked_later(self, wanted: MeterEventV2) -> MeterEvent:
        """A meter event of the stream; one that v2 would refuse is rejected when its validation is over."""
        try:
            return self._checked(_asked_by_json(wanted))
        except Refusal as refusal:
            now_us = self._clock.now_us()
            return MeterEvent(
                identifier=wanted.identifier or "",
                meter_id=self._meters.newest_id(wanted.event_name),
                event_name=wanted.event_name,
                customer="",
                value=0,
                timestamp_seconds=now_us // SECOND_US,
                payload=wanted.payload,
                received_at_us=now_us,
                validated_at_us=now_us + self._validation.delay_us,
                rejection=Rejection(refusal.reported or _INVALID_VALUE, str(refusal)),
                settled=True,
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
        if self._is_duplicate(meter_event):
            raise duplicate_identifier(meter_event.identifier)

    def _is_duplicate(self, meter_event: MeterEvent) -> bool:
        # Uniqueness is promised for "at least 24 hours"; afterwards the worst is assumed: it counts again.
        earlier = self._of_identifier.get(meter_event.identifier)
        if earlier is None or meter_event.received_at_us - earlier.received_at_us >= self._identifier_us:
            return False
        return not (self._identifier_free_after_failure and self._failed(earlier))

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
        if meter_event.customer:
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


def _asked_by_form(form: Form) -> _Asked:
    """What a request of v1 asks. Raises Refusal (400)."""
    refuse_unknown(form, _KEYS)
    event_name = required_text(form, "event_name", 100)
    if "payload" not in form:
        raise missing_param("payload")
    payload = _payload(optional_hash(form, "payload"))
    identifier = optional_text(form, "identifier", 100)
    return _Asked(event_name, payload, identifier or "", optional_integer(form, "timestamp"))


def _read_v2(body: Json) -> MeterEventV2:
    try:
        return msgspec.convert(body, MeterEventV2)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from error


def _asked_by_json(wanted: MeterEventV2) -> _Asked:
    """What a meter event of v2 or of the stream asks. Raises Refusal (400)."""
    if len(wanted.event_name) > 100 or len(wanted.identifier or "") > 100:
        raise invalid("event_name and identifier are at most 100 characters long", reported="no_meter")
    try:
        timestamp_seconds = None if wanted.timestamp is None else parse_time(wanted.timestamp) // SECOND_US
    except ValueError as error:
        raise invalid(f"timestamp: {error}", "timestamp") from error
    return _Asked(wanted.event_name, _payload(wanted.payload), wanted.identifier or "", timestamp_seconds)


def _payload(wanted: Mapping[str, str | Form]) -> Mapping[str, str]:
    payload: dict[str, str] = {}
    for key, value in wanted.items():
        if not isinstance(value, str) or len(value) > _PAYLOAD_VALUE_LENGTH_MAX:
            limit = _PAYLOAD_VALUE_LENGTH_MAX
            raise invalid(f"Invalid payload: {key} must be a string of at most {limit} characters", "payload")
        payload[key] = value
    return payload


def _timestamp_seconds(asked: _Asked, now_us: int) -> int:
    timestamp_seconds = asked.timestamp_seconds
    if timestamp_seconds is None:
        return now_us // SECOND_US
    oldest_seconds = (now_us - STRIPE_AGE_MAX_US) // SECOND_US
    newest_seconds = (now_us + _AHEAD_MAX_US) // SECOND_US
    if timestamp_seconds < oldest_seconds:
        raise too_old(oldest_seconds)
    if timestamp_seconds > newest_seconds:
        raise too_new(newest_seconds)
    return timestamp_seconds


def _customer(payload: Mapping[str, str], meter: Meter) -> str:
    reported = "meter_event_no_customer_defined"
    return _from_payload(payload, meter.customer_key, "payload_no_customer_defined", reported)


def _from_payload(payload: Mapping[str, str], key: str, code_v2: str, reported: str) -> str:
    value = payload.get(key)
    if not value:
        told = f"The event payload must have a value for the key `{key}`."
        raise invalid(told, "payload", code_v2=code_v2, reported=reported)
    return value


def _amount(payload: Mapping[str, str], meter: Meter) -> Amount:
    if meter.formula == "count":
        return 1
    text = _from_payload(payload, meter.value_key, "payload_no_value_defined", _INVALID_VALUE)
    if not _VALUE.fullmatch(text):
        told = f"The value in the event payload must be a number. Received `{text}`."
        raise invalid(told, "payload", code_v2="payload_invalid_value", reported=_INVALID_VALUE)
    if _digits(text) > _DIGITS_MAX:
        told = f"The value in the event payload can have at most {_DIGITS_MAX} digits. Received `{text}`."
        reported = "meter_event_value_too_many_digits"
        raise invalid(told, "payload", code_v2="payload_invalid_value", reported=reported)
    return Decimal(text) if "." in text else int(text)


def _digits(text: str) -> int:
    """Digits without sign, point and leading zeros; trailing zeros count, which is the stricter reading."""
    return len(text.replace(".", "").lstrip("-0"))
