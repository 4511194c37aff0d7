"""What Stripe checks after it has answered 200: the verdict on each meter event (facts/stripe.md section 2)."""

from __future__ import annotations

from collections import deque

from tallymark.core.clock import SECOND_US

from .customers import Customers
from .meters import Meters
from .shapes import MeterEvent, Rejection

# Those for no_meter and meter_event_no_customer_defined are Stripe's published examples; the others are ours.
_MESSAGES = {
    "archived_meter": "The meter for event_name {event.event_name} is inactive.",
    "meter_event_customer_not_found": "No such customer: '{event.customer}'",
    "meter_event_dimension_count_too_high": "The event has too many dimensions.",
    "meter_event_invalid_value": "The value in the event payload is not valid.",
    "meter_event_no_customer_defined": "Customer mapping key stripe_customer_id not found in payload.",
    "meter_event_value_too_many_digits": "The value in the event payload can have at most 15 digits.",
    "missing_dimension_payload_keys": "The event payload lacks a dimension of the meter.",
    "no_meter": "No meter was found matching event_name {event.event_name}.",
    "timestamp_in_future": "The event timestamp is in the future.",
    "timestamp_too_far_in_past": "The event timestamp is too far in the past.",
}


class Validation:
    """Judges meter events some time after their receipt, by what was true at that moment.

    Nothing happens by itself: whoever reads meter events has them judged as of now. Its owner holds the lock.
    """

    def __init__(self, meters: Meters, customers: Customers, seconds: float) -> None:
        self._meters, self._customers = meters, customers
        self.delay_us = round(seconds * SECOND_US)
        self._planted: deque[tuple[str, str | None]] = deque()

    def reject_next(self, count: int, code: str, message: str | None) -> None:
        """Plant a rejection for each of the next `count` meter events that are kept."""
        self._planted.extend([(code, message)] * count)

    def begin(self, meter_event: MeterEvent) -> None:
        """Take note of a meter event that was just kept: it meets the next planted rejection, if there is one."""
        if self._planted:
            code, message = self._planted.popleft()
            meter_event.rejection = _rejection(meter_event, code, message)
            meter_event.settled = True

    def judge(self, meter_event: MeterEvent, now_us: int) -> MeterEvent:
        """The same meter event with the verdict as of now, which is final once its validation is over."""
        if not meter_event.settled:
            code = self._code(meter_event, min(now_us, meter_event.validated_at_us))
            meter_event.rejection = _rejection(meter_event, code, None) if code else None
            meter_event.settled = now_us >= meter_event.validated_at_us
        return meter_event

    def _code(self, meter_event: MeterEvent, moment_us: int) -> str | None:
        if not self._meters.find(meter_event.meter_id).active_at(moment_us):
            return "archived_meter"
        if not self._customers.existed(meter_event.customer, moment_us):
            return "meter_event_customer_not_found"
        return None


def _rejection(meter_event: MeterEvent, code: str, message: str | None) -> Rejection:
    template = _MESSAGES.get(code, "The event is not valid.")
    return Rejection(code, message or template.format(event=meter_event))
