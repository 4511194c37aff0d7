"""Stripe's objects: how the sandbox keeps them, and how they look as JSON (facts/stripe.md section 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallymark.core.clock import SECOND_US

Json = dict[str, Any]
Amount = int | Decimal


@dataclass(slots=True)
class Meter:
    """A billing meter. `window` is its event_time_window: None, "hour" or "day"."""

    id: str
    event_name: str
    display_name: str
    formula: str
    customer_key: str
    value_key: str
    window: str | None
    created_us: int
    updated_us: int
    deactivated_us: int | None = None

    @property
    def active(self) -> bool:
        """Whether it takes meter events."""
        return self.deactivated_us is None


@dataclass(slots=True)
class MeterEvent:
    """One meter event that was answered with 200.

    `timestamp_seconds` is Stripe's unix time, `received_at_us` the sandbox clock's. `counted` is false for a
    cancelled one and for one that is `rejected_later`, because its customer does not exist.
    """

    identifier: str
    meter_id: str
    event_name: str
    customer: str
    value: Amount
    timestamp_seconds: int
    payload: Mapping[str, str]
    received_at_us: int
    counted: bool
    rejected_later: bool


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
