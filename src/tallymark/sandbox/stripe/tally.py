"""What meter events add up to: the formulas of meters, over any set of meter events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from .shapes import Amount, Meter, MeterEvent

_HOUR_SECONDS = 3600
WINDOW_SECONDS = {"hour": _HOUR_SECONDS, "day": 24 * _HOUR_SECONDS}


def total(meter: Meter, meter_events: Iterable[MeterEvent]) -> Amount:
    """The meter's formula over the counted ones of these meter events, given in the order they were received."""
    return aggregate(meter, [meter_event for meter_event in meter_events if meter_event.counted])


def aggregate(meter: Meter, meter_events: Sequence[MeterEvent]) -> Amount:
    """The meter's formula over all of these meter events, given in the order they were received.

    With an event_time_window only the last one received in each UTC window counts (facts/stripe.md section 4).
    """
    counting = effective(meter, meter_events)
    if meter.formula == "count":
        return len(counting)
    if meter.formula == "last":
        return max(counting, key=lambda one: one.timestamp_seconds).value if counting else 0
    return sum(one.value for one in counting)


def effective(meter: Meter, meter_events: Sequence[MeterEvent]) -> Sequence[MeterEvent]:
    """Those of them that make up the meter's value: all, or the last one received in each of its windows."""
    return meter_events if meter.window is None else _last_of_windows(meter_events, WINDOW_SECONDS[meter.window])


def _last_of_windows(meter_events: Iterable[MeterEvent], width_seconds: int) -> list[MeterEvent]:
    return list({one.timestamp_seconds // width_seconds: one for one in meter_events}.values())


def by_window(meter_events: Sequence[MeterEvent], width_seconds: int) -> list[tuple[int, list[MeterEvent]]]:
    """Meter events by UTC window: (start in unix seconds, those inside), oldest window first, empty ones left out."""

    def start_of(meter_event: MeterEvent) -> int:
        return meter_event.timestamp_seconds // width_seconds * width_seconds

    # The sort is stable: inside a window they stay in the order they were received.
    return [(start, list(group)) for start, group in groupby(sorted(meter_events, key=start_of), key=start_of)]


def by_hour(meter_events: Sequence[MeterEvent]) -> list[tuple[int, list[MeterEvent]]]:
    """Meter events by UTC hour."""
    return by_window(meter_events, _HOUR_SECONDS)
