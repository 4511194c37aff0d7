"""Stripe's objects: how the sandbox keeps them, and how they look as JSON (facts/stripe.md section 13)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tallymark.core.clock import SECOND_US, format_time

Json = dict[str, Any]
Amount = int | Decimal


@dataclass(slots=True)
class Meter:
    """A billing meter. `window` is its event_time_window: None, "hour" or "day".

    `switched_us` are the moments at which it was deactivated, reactivated, deactivated, and so on.
    """

    id: str
    event_name: str
    display_name: str
    formula: str
    customer_key: str
    value_key: str
    window: str | None
    created_us: int
    updated_us: int
    switched_us: list[int] = field(default_factory=list)

    def active_at(self, moment_us: int) -> bool:
        """Whether it took meter events at that moment."""
        return bisect_right(self.switched_us, moment_us) % 2 == 0

    @property
    def active(self) -> bool:
        """Whether it takes meter events."""
        return len(self.switched_us) % 2 == 0

    @property
    def deactivated_us(self) -> int | None:
        """Since when it is inactive; None when it is active."""
        return None if self.active else self.switched_us[-1]

    def switch(self, active: bool, now_us: int) -> None:
        """Reactivate or deactivate it; nothing changes if it is so already."""
        if active != self.active:
            self.switched_us.append(now_us)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a meter event that was answered with 200 is not counted: code and message of an error report."""

    code: str
    message: str


@dataclass(slots=True)
class MeterEvent:
    """One meter event that was answered with 200.

    `timestamp_seconds` is Stripe's unix time; `received_at_us`, `validated_at_us` and `cancelled_at_us` are the sandbox
    clock's. What is known of its `rejection` may change until it is `settled`; it is not `counted` while it has one.
    """

    identifier: str
    meter_id: str
    event_name: str
    customer: str
    value: Amount
    timestamp_seconds: int
    payload: Mapping[str, str]
    received_at_us: int
    validated_at_us: int
    rejection: Rejection | None = None
    settled: bool = False
    cancelled_at_us: int | None = None

    @property
    def rejected_later(self) -> bool:
        """Whether it was answered with 200 and rejected afterwards."""
        return self.rejection is not None

    @property
    def counted(self) -> bool:
        """Whether it is neither rejected nor cancelled."""
        return self.rejection is None and self.cancelled_at_us is None

    def failed_by(self, moment_us: int) -> bool:
        """Whether it had been cancelled, or had been validated and rejected, by that moment."""
        rejected = self.rejection is not None and self.validated_at_us <= moment_us
        return rejected or (self.cancelled_at_us is not None and self.cancelled_at_us <= moment_us)


def meter_json(meter: Meter, livemode: bool) -> Json:
    """`billing.meter`."""
    deactivated_us = meter.deactivated_us
    return {
        "id": meter.id,
        "object": "billing.meter",
        "created": meter.created_us // SECOND_US,
        "customer_mapping": {"event_payload_key": meter.customer_key, "type": "by_id"},
        "default_aggregation": {"formula": meter.formula},
        "display_name": meter.display_name,
        "event_name": meter.event_name,
        "event_time_window": meter.window,
        "livemode": livemode,
        "status": "active" if meter.active else "inactive",
        "status_transitions": {"deactivated_at": None if deactivated_us is None else deactivated_us // SECOND_US},
        "updated": meter.updated_us // SECOND_US,
        "value_settings": {"event_payload_key": meter.value_key},
    }


def meter_event_json(meter_event: MeterEvent, livemode: bool) -> Json:
    """`billing.meter_event`: no id, and nothing on whether it will be counted."""
    return {
        "object": "billing.meter_event",
        "created": meter_event.received_at_us // SECOND_US,
        "event_name": meter_event.event_name,
        "identifier": meter_event.identifier,
        "livemode": livemode,
        "payload": meter_event.payload,
        "timestamp": meter_event.timestamp_seconds,
    }


def meter_event_v2_json(meter_event: MeterEvent, livemode: bool) -> Json:
    """`v2.billing.meter_event`: the same, with times in RFC 3339."""
    return {
        **meter_event_json(meter_event, livemode),
        "object": "v2.billing.meter_event",
        "created": format_time(meter_event.received_at_us),
        "timestamp": format_time(meter_event.timestamp_seconds * SECOND_US),
    }


def session_json(token: str, number: int, created_us: int, expires_at_us: int, livemode: bool) -> Json:
    """`v2.billing.meter_event_session`."""
    return {
        "id": f"mes_sandbox_{number:06d}",
        "object": "v2.billing.meter_event_session",
        "authentication_token": token,
        "created": format_time(created_us),
        "expires_at": format_time(expires_at_us),
        "livemode": livemode,
    }


def adjustment_json(meter_event: MeterEvent, livemode: bool) -> Json:
    """`billing.meter_event_adjustment` of a cancelled meter event."""
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": meter_event.identifier},
        "event_name": meter_event.event_name,
        "livemode": livemode,
        "status": "complete",
        "type": "cancel",
    }


def customer_json(customer_id: str, created_us: int, livemode: bool, name: str | None = None) -> Json:
    """`customer`, as far as billing reads it."""
    return {
        "id": customer_id,
        "object": "customer",
        "created": created_us // SECOND_US,
        "email": None,
        "livemode": livemode,
        "metadata": {},
        "name": name,
    }


def account_json(livemode: bool) -> Json:
    """`account`, as far as a key check reads it."""
    return {"id": "acct_sandbox", "object": "account", "charges_enabled": livemode, "country": "US", "type": "standard"}


def list_json(url: str, data: Sequence[Json], has_more: bool) -> Json:
    """A page of a list."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}
