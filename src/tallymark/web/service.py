"""What the routes share: the settings, the clock, who may ask, and the figures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from litestar.di import NamedDependency

from ..config import Config
from ..core.clock import Clock
from ..ledger import Ledger
from ..ledger.guard import using_ledger
from .access import Access, Caller
from .metrics import Metrics


@dataclass(frozen=True, slots=True)
class Service:
    """One for each application; every handler gets it as `service`."""

    config: Config
    clock: Clock
    access: Access
    metrics: Metrics
    wake: Callable[[], None]

    @contextlib.contextmanager
    def reading(self) -> Iterator[Ledger]:
        """The ledger, for one answer. Raises LedgerError."""
        with using_ledger(self.config.ledger_url, read_only=True) as ledger:
            yield ledger


# How a handler asks for them.
TheService = NamedDependency[Service]
TheCaller = NamedDependency[Caller]
