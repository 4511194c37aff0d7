"""The truth: append-only entries, meter events with every attempt, and the only owner of transactions."""

from .ledger import Ledger
from .opening import open_ledger

__all__ = ["Ledger", "open_ledger"]
