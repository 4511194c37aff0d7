"""Cancel: ask Stripe to take back meter events whose traces came to less, before the lower usage is gathered.

Where that is the policy (BILLING_CORRECTIONS) and Stripe still does it; else the lower usage goes to the carry.
"""

from __future__ import annotations

from collections import Counter

from .. import machine
from ..core.states import Answer, MeterOutcome
from ..ledger.cancelling import claim_cancels, settle_cancels
from ..ledger.rows import RunRef
from .send import SEND_THREADS, answered, raise_refused
from .stations import Stations

# So few that each is answered, or given up (15 s), long before its claim ends (60 s).
CLAIMS_MAX = 2 * SEND_THREADS
# How often one is asked for in a run; after that its answer is a doubt, or the correction goes to the carry.
ASKS_MAX = 3
RETRY_SECONDS = 1.0


def cancel_lower(stations: Stations, run: RunRef) -> None:
    """Ask for each until it is answered, or asked often enough; what a killed run left is asked for again."""
    ledger, clock = stations.ledger, stations.clock
    wanted = stations.config.corrections == "cancel"
    if not wanted and "cancelling" not in ledger.open_meter_events():
        return
    asked: Counter[str] = Counter()
    limit = CLAIMS_MAX if wanted else 0
    with machine.current().pool(SEND_THREADS, "cancel") as threads:
        while claims := claim_cancels(ledger, clock.now_us(), limit, stations.config.lateness):
            asked.update(claim.meter_event_id for claim in claims)
            outcomes = list(threads.map(lambda claim: answered(lambda: stations.meter.take_back(claim)), claims))
            last = {meter_event_id for meter_event_id, times in asked.items() if times >= ASKS_MAX}
            settle_cancels(ledger, run, list(zip(claims, outcomes, strict=True)), clock.now_us(), last)
            raise_refused(outcomes)
            _wait(stations, outcomes)


def _wait(stations: Stations, outcomes: list[MeterOutcome]) -> None:
    """Give Stripe time where it asked for it, or did not answer."""
    open_ones = [one for one in outcomes if one.answer in (Answer.THROTTLED, Answer.UNKNOWN)]
    if open_ones:
        stations.clock.sleep(max(one.retry_after_seconds or RETRY_SECONDS for one in open_ones))
