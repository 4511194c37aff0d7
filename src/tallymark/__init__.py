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
    "backup_ledger": "tallymark.api",
    "doctor": "tallymark.flows.doctor",
    "explain": "tallymark.api",
    "export_ledger": "tallymark.api",
    "held": "tallymark.api",
    "load_config": "tallymark.api",
    "receive_stripe_report": "tallymark.api",
    "show_rates": "tallymark.api",
    "simulate_rates": "tallymark.api",
    "restore_ledger": "tallymark.api",
    "sync": "tallymark.flows.sync",
    "usage": "tallymark.api",
    "verify_ledger": "tallymark.api",
}
__all__ = [
    "BackfillSummary",
    "Config",
    "SyncSummary",
    "TallymarkError",
    "__version__",
    "backfill",
    "backup_ledger",
    "check_rates",
    "doctor",
    "explain",
    "export_ledger",
    "held",
    "load_config",
    "receive_stripe_report",
    "restore_ledger",
    "show_rates",
    "simulate_rates",
    "sync",
    "usage",
    "verify_ledger",
]

if TYPE_CHECKING:
    from .api import (
        backup_ledger,
        check_rates,
        explain,
        export_ledger,
        held,
        load_config,
        receive_stripe_report,
        restore_ledger,
        show_rates,
        simulate_rates,
        usage,
        verify_ledger,
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
