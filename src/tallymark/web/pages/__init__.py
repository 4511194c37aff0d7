"""The dashboard: one module for each group of pages; each handler asks flows and fills a template."""

from __future__ import annotations

from . import customers, decisions, held, login, meter_events, overview, rates, reconciliation, runs, settings, traces

# What is open to who has not signed in.
ENTRANCE = [*login.HANDLERS]
HANDLERS = [
    *customers.HANDLERS,
    *overview.HANDLERS,
    *rates.HANDLERS,
    *reconciliation.HANDLERS,
    *runs.HANDLERS,
    *traces.HANDLERS,
    *held.HANDLERS,
    *decisions.HANDLERS,
    *meter_events.HANDLERS,
    *settings.HANDLERS,
]
