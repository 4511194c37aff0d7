"""The JSON API: one module for each resource; each handler asks one flow and answers with its structs."""

from __future__ import annotations

from . import (
    alerts,
    customers,
    decisions,
    finance,
    held,
    meter_events,
    rates,
    reconciliations,
    runs,
    settings,
    status,
    traces,
)

HANDLERS = [
    *customers.HANDLERS,
    *finance.HANDLERS,
    *rates.HANDLERS,
    *reconciliations.HANDLERS,
    *status.HANDLERS,
    *alerts.HANDLERS,
    *runs.HANDLERS,
    *meter_events.HANDLERS,
    *traces.HANDLERS,
    *held.HANDLERS,
    *decisions.HANDLERS,
    *settings.HANDLERS,
]
