"""Error reports: what Stripe says of meter events it rejected after answering 200 (facts/stripe.md section 2). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallymark.core.clock import SECOND_US, format_time

from .shapes import Json, MeterEvent

ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"
# As in every published example; Stripe promises neither.
_WINDOW_US = 10 * SECOND_US
_CREATED_AFTER_US = 2 * SECOND_US


@dataclass(frozen=True, slots=True)
class CoreEvent:
    """One v2 core event. `meter_id` is its related object, or None; `data` what only retrieving it shows."""

    id: str
    type: str
    created_us: int
    meter_id: str | None
    data: Json


def reports(rejected: Iterable[MeterEvent], samples_max: int) -> list[CoreEvent]:
    """The reports on these meter events, each of which has a rejection, in order of creation.

    There is one for each meter and window of 10 seconds in which validations ended, and one for each window in which
    meter events without a meter did. A report holds at most `samples_max` meter events of each error code.
    """
    windows: dict[tuple[int, str | None], list[MeterEvent]] = {}
    for meter_event in rejected:
        key = (meter_event.validated_at_us // _WINDOW_US * _WINDOW_US, _meter_of(meter_event))
        windows.setdefault(key, []).append(meter_event)
    made = [_report(start_us, meter_id, inside, samples_max) for (start_us, meter_id), inside in windows.items()]
    return sorted(made, key=lambda report: (report.created_us, report.id))


def _meter_of(meter_event: MeterEvent) -> str | None:
    """None where there is none: planted so, or what came through the stream names no meter that exists."""
    is_missing = meter_event.rejection is not None and meter_event.rejection.code == "no_meter"
    return None if is_missing else meter_event.meter_id or None


def _report(start_us: int, meter_id: str | None, inside: Sequence[MeterEvent], samples_max: int) -> CoreEvent:
    end_us = start_us + _WINDOW_US
    digest = hashlib.blake2b(f"{meter_id}/{start_us}".encode(), digest_size=12).hexdigest()
    return CoreEvent(
        id=f"evt_sandbox_{digest}",
        type=NO_METER_FOUND if meter_id is None else ERROR_REPORT,
        created_us=end_us + _CREATED_AFTER_US,
        meter_id=meter_id,
        data={
            "developer_message_summary": _summary(len(inside)),
            "reason": {"error_count": len(inside), "error_types": _error_types(inside, samples_max)},
            "validation_end": format_time(end_us),
            "validation_start": format_time(start_us),
        },
    )


def _summary(count: int) -> str:
    return "There is 1 invalid event" if count == 1 else f"There are {count} invalid events"


def _error_types(meter_events: Sequence[MeterEvent], samples_max: int) -> list[Json]:
    samples: dict[str, list[Json]] = {}
    for meter_event in meter_events:
        if meter_event.rejection:
            sample = {"error_message": meter_event.rejection.message, "request": {"identifier": meter_event.identifier}}
            samples.setdefault(meter_event.rejection.code, []).append(sample)
    return [
        {"code": code, "error_count": len(found), "sample_errors": found[:samples_max]}
        for code, found in sorted(samples.items())
    ]
