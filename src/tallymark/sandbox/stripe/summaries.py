"""GET /v1/billing/meters/{id}/event_summaries (facts/stripe.md section 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tallymark.core.clock import SECOND_US, Clock

from .errors import invalid
from .forms import Form, optional_choice, refuse_unknown, required_integer, required_text
from .meter_events import MeterEvents
from .meters import Meters
from .pages import PAGE_KEYS, page
from .shapes import Json, Meter, MeterEvent
from .tally import WINDOW_SECONDS, by_window, total

_KEYS = PAGE_KEYS | {"customer", "start_time", "end_time", "value_grouping_window"}
_MINUTE_SECONDS = 60


class Summaries:
    """Sums of what is counted, as old as the lag makes them: Stripe promises no freshness."""

    def __init__(
        self, clock: Clock, meters: Meters, meter_events: MeterEvents, *, livemode: bool, lag_seconds: float
    ) -> None:
        self._clock, self._meters, self._meter_events = clock, meters, meter_events
        self._livemode = livemode
        self._lag_us = round(lag_seconds * SECOND_US)

    def list(self, form: Form, identity: str) -> Json:
        """One summary for the range, or one for each hour or day with usage, the newest first. Raises Refusal."""
        refuse_unknown(form, _KEYS)
        meter = self._meters.find(identity)
        customer = required_text(form, "customer")
        grouping = optional_choice(form, "value_grouping_window", ("hour", "day"))
        start_seconds, end_seconds = _range(form, WINDOW_SECONDS[grouping] if grouping else _MINUTE_SECONDS)
        visible = self._visible(customer, meter, start_seconds, end_seconds)
        windows = _windows(visible, grouping, start_seconds, end_seconds)
        rows = [self._row(meter, customer, *window) for window in windows]
        return page(form, rows, f"/v1/billing/meters/{meter.id}/event_summaries")

    def _visible(self, customer: str, meter: Meter, start_seconds: int, end_seconds: int) -> Sequence[MeterEvent]:
        """The meter events in the range (end exclusive) that are older than the lag."""
        seen_until_us = self._clock.now_us() - self._lag_us
        return [
            one
            for one in self._meter_events.of_customer(customer, meter.id)
            if start_seconds <= one.timestamp_seconds < end_seconds and one.received_at_us <= seen_until_us
        ]

    def _row(
        self, meter: Meter, customer: str, start_seconds: int, end_seconds: int, meter_events: Sequence[MeterEvent]
    ) -> Json:
        identity = f"{meter.id}/{customer}/{start_seconds}/{end_seconds}"
        return {
            "id": "mtrusg_" + hashlib.blake2b(identity.encode(), digest_size=12).hexdigest(),
            "object": "billing.meter_event_summary",
            "aggregated_value": float(total(meter, meter_events)),
            "end_time": end_seconds,
            "livemode": self._livemode,
            "meter": meter.id,
            "start_time": start_seconds,
        }


def _range(form: Form, width_seconds: int) -> tuple[int, int]:
    start_seconds, end_seconds = required_integer(form, "start_time"), required_integer(form, "end_time")
    for name, moment_seconds in (("start_time", start_seconds), ("end_time", end_seconds)):
        if moment_seconds % width_seconds:
            raise invalid(f"{name} must be aligned with {width_seconds} second boundaries", name)
    if end_seconds <= start_seconds:
        raise invalid("end_time must be after start_time", "end_time")
    return start_seconds, end_seconds


def _windows(
    meter_events: Sequence[MeterEvent], grouping: str | None, start_seconds: int, end_seconds: int
) -> Sequence[tuple[int, int, Sequence[MeterEvent]]]:
    if grouping is None:
        return [(start_seconds, end_seconds, meter_events)]
    width_seconds = WINDOW_SECONDS[grouping]
    groups = by_window(meter_events, width_seconds)
    return [(start, start + width_seconds, inside) for start, inside in reversed(groups)]
