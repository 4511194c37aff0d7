"""Turns at a service that several processes share: each reserves some in one transaction, and asks in them alone."""

from __future__ import annotations

from ..core.clock import HOUR_US
from ..failpoints import Step
from .ledger import Ledger

# No queue of processes is so long; what is further ahead was written by a clock that was wrong.
AHEAD_US_MAX = 6 * HOUR_US


def reserve(ledger: Ledger, service: str, turns: int, interval_us: int) -> int:
    """Reserve turns at a service, an interval apart; how many microseconds from now the first one is.

    By the clock of the ledger's server, since those of its processes may differ.
    """
    with ledger.transaction(Step.RESERVE) as db:
        now_us = db.row("server_time")["now_us"]
        stored = db.row("get_fact", name=f"turns at {service}")
        free_us = int(stored["value"]) if stored is not None else now_us
        first_us = free_us if now_us < free_us <= now_us + AHEAD_US_MAX else now_us
        db.write("put_fact", name=f"turns at {service}", value=str(first_us + turns * interval_us))
        return int(first_us - now_us)
