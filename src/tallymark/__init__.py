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
    "add_customer_rules": "tallymark.flows.held_decisions",
    "backfill": "tallymark.flows.backfill",
    "backup_ledger": "tallymark.api",
    "check_rates": "tallymark.api",
    "close_period": "tallymark.api",
    "customer_rules": "tallymark.flows.held_decisions",
    "doctor": "tallymark.flows.doctor",
    "explain": "tallymark.api",
    "export_ledger": "tallymark.api",
    "held": "tallymark.api",
    "held_decisions": "tallymark.api",
    "load_config": "tallymark.api",
    "receive_stripe_report": "tallymark.api",
    "release": "tallymark.flows.held_decisions",
    "remove_customer_rule": "tallymark.flows.held_decisions",
    "restore_ledger": "tallymark.api",
    "show_held": "tallymark.api",
    "show_rates": "tallymark.api",
    "simulate_rates": "tallymark.api",
    "sync": "tallymark.flows.sync",
    "usage": "tallymark.api",
    "verify_ledger": "tallymark.api",
    "waive": "tallymark.flows.held_decisions",
}
__all__ = [
    "BackfillSummary",
    "Config",
    "SyncSummary",
    "TallymarkError",
    "__version__",
    "add_customer_rules",
    "backfill",
    "backup_ledger",
    "check_rates",
    "close_period",
    "customer_rules",
    "doctor",
    "explain",
    "export_ledger",
    "held",
    "held_decisions",
    "load_config",
    "receive_stripe_report",
    "release",
    "remove_customer_rule",
    "restore_ledger",
    "show_held",
    "show_rates",
    "simulate_rates",
    "sync",
    "usage",
    "verify_ledger",
    "waive",
]

if TYPE_CHECKING:
    from .api import (
        backup_ledger,
        check_rates,
        close_period,
        explain,
        export_ledger,
        held,
        held_decisions,
        load_config,
        receive_stripe_report,
        restore_ledger,
        show_held,
        show_rates,
        simulate_rates,
        usage,
        verify_ledger,
    )
    from .config import Config
    from .errors import TallymarkError
    from .flows.backfill import BackfillSummary, backfill
    from .flows.doctor import doctor
    from .flows.held_decisions import add_customer_rules, customer_rules, release, remove_customer_rule, waive
    from .flows.summary import SyncSummary
    from .flows.sync import sync


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tallymark' has no attribute {name!r}")
