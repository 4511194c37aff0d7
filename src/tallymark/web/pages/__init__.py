"""The dashboard: one module for each group of pages; each handler asks flows and fills a template."""

from __future__ import annotations

from . import customers, decisions, held, login, meter_events, overview, runs, traces

# What is open to who has not signed in.
ENTRANCE = [*login.HANDLERS]
HANDLERS = [
    *customers.HANDLERS,
    *overview.HANDLERS,
    *runs.HANDLERS,
    *traces.HANDLERS,
    *held.HANDLERS,
    *decisions.HANDLERS,
    *meter_events.HANDLERS,
]
