"""A clock that went backwards: seen by times in the ledger that lie ahead of now, and said, as much rests on time."""

from __future__ import annotations

from ..core.clock import MINUTE_US, format_time
from ..core.windows import CLOCK_TOLERANCE_US
from ..ledger import Ledger


def clock_problem(ledger: Ledger, now_us: int) -> str:
    """What is wrong with the clock by what the ledger says, in a sentence; empty if nothing is."""
    newest_us = next(iter(ledger.query("newest_time")))["at_us"]
    if newest_us is None or newest_us <= now_us + CLOCK_TOLERANCE_US:
        return ""
    minutes = (newest_us - now_us) // MINUTE_US
    return (
        f"this machine's clock says {format_time(now_us)}, but the ledger was written {minutes:,} minutes later: "
        "it went backwards, or was wrong then. Set it (NTP); sends that it left unanswered are in doubt"
    )
