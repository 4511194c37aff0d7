"""The JSON API: one module for each resource; each handler asks one flow and answers with its structs."""

from __future__ import annotations

from . import customers, finance, rates, reconciliations, runs, status, traces

HANDLERS = [
    *customers.HANDLERS,
    *finance.HANDLERS,
    *rates.HANDLERS,
    *reconciliations.HANDLERS,
    *status.HANDLERS,
    *runs.HANDLERS,
    *traces.HANDLERS,
]
