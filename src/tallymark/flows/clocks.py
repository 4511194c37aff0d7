"""A wrong clock. One that went backwards is seen by times in the ledger that lie ahead of now, and said.

One that is ahead of Langfuse's is not believed at all: a send would be written with a time that has not come, so that
after the clock is set right it looks younger than it is, and is sent again when Stripe has forgotten its identifier.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from ..core.clock import MINUTE_US, format_time, from_datetime
from ..core.windows import CLOCK_TOLERANCE_US, STRIPE_PROMISE_MARGIN_US
from ..errors import ClockAhead
from ..ledger import Ledger
from ..remote.langfuse import LangfuseClient

# Together with what a day's clock may drift, less than the margin that is kept of Stripe's promise.
CLOCK_AHEAD_US_MAX = STRIPE_PROMISE_MARGIN_US // 2


def require_right_clock(client: LangfuseClient, now_us: int) -> None:
    """Raise ClockAhead if the server's newest answer is dated long before now. One without a date says nothing."""
    server_us = server_time_us(client)
    if server_us is not None and now_us - server_us > CLOCK_AHEAD_US_MAX:
        minutes = (now_us - server_us) // MINUTE_US
        raise ClockAhead(
            f"this machine's clock is {minutes:,} minutes ahead of {client.base_url}; nothing was read or sent. "
            "Set it (NTP), then run again."
        )


def server_time_us(client: LangfuseClient) -> int | None:
    """When the server's newest answer was made, by its own clock, to the second; None if it does not say."""
    try:
        return from_datetime(parsedate_to_datetime(client.server_date or ""))
    except ValueError:
        return None


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
