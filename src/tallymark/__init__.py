"""tallymark: Langfuse traces into Stripe usage-based billing, every trace counted once.

Everything that a command does is one typed call here; the names below are imported when they are first used, so that
`import tallymark` stays cheap.

>>> config = tallymark.load_config()
>>> summary = tallymark.sync(config)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "BackfillSummary": "tallymark.flows.backfill",
    "Config": "tallymark.config",
    "SyncSummary": "tallymark.flows.summary",
    "TallymarkError": "tallymark.errors",
    "backfill": "tallymark.flows.backfill",
    "check_rates": "tallymark.api",
    "doctor": "tallymark.flows.doctor",
    "explain": "tallymark.api",
    "held": "tallymark.api",
    "load_config": "tallymark.api",
    "receive_stripe_report": "tallymark.api",
    "show_rates": "tallymark.api",
    "simulate_rates": "tallymark.api",
    "sync": "tallymark.flows.sync",
    "usage": "tallymark.api",
}
__all__ = [
    "BackfillSummary",
    "Config",
    "SyncSummary",
    "TallymarkError",
    "__version__",
    "backfill",
    "check_rates",
    "doctor",
    "explain",
    "held",
    "load_config",
    "receive_stripe_report",
    "show_rates",
    "simulate_rates",
    "sync",
    "usage",
]

if TYPE_CHECKING:
    from .api import (
        check_rates,
        explain,
        held,
        load_config,
        receive_stripe_report,
        show_rates,
        simulate_rates,
        usage,
    )
    from .config import Config
    from .errors import TallymarkError
    from .flows.backfill import BackfillSummary, backfill
    from .flows.doctor import doctor
    from .flows.summary import SyncSummary
    from .flows.sync import sync


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tallymark' has no attribute {name!r}")
