"""The JSON API: one module for each resource; each handler asks one flow and answers with its structs."""

from __future__ import annotations

<<<<<<< HEAD
from . import alerts, customers, finance, runs, status, traces
=======
from . import customers, finance, meter_events, runs, status, traces
>>>>>>> main

HANDLERS = [
    *customers.HANDLERS,
    *finance.HANDLERS,
    *status.HANDLERS,
    *alerts.HANDLERS,
    *runs.HANDLERS,
    *meter_events.HANDLERS,
    *traces.HANDLERS,
]
