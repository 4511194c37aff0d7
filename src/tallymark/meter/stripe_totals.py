"""Running totals for pre-aggregated meters, by v1: of each hour or day Stripe counts the meter event it received last.

So a send sets its window, and one that is repeated sets it again. Facts: facts/stripe.md section 4 (event_time_window).
"""

from __future__ import annotations

from dataclasses import replace

from ..core.clock import SECOND_US, format_time
from ..core.states import Answer, CancelClaim, Claim, MeterOutcome
from .stripe_events import StripeMeter

NO_TOTAL = MeterOutcome(
    Answer.REJECTED,
    "not sent: its meter adds up every meter event, so it gets no running totals; set BILLING_METER_API=v1, and sync",
)


class StripeTotals:
    """Sends the running totals of windows to an account. Safe to use from several threads."""

    def __init__(self, account: StripeMeter) -> None:
        self._account = account

    def send(self, claim: Claim) -> MeterOutcome:
        """Send the total that a claimed meter event sets its window to. Raises KeyRefused: then it set nothing."""
        total = claim.window_total
        if total is None:
            return NO_TOTAL
        outcome = self._account.send_value(claim, total.credits, total.timestamp_s)
        window = f"{format_time(total.start_s * SECOND_US)} to {format_time(total.end_s * SECOND_US)}"
        return replace(outcome, detail=f"{outcome.detail} (a total of {total.credits} from {window})")

    def take_back(self, claim: CancelClaim) -> MeterOutcome:
        """Ask Stripe once to take a meter event back. Raises KeyRefused: it was not."""
        return self._account.take_back(claim)
