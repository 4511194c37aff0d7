"""Streamed: Stripe's sums show which meter events of the stream it counted, since its answers do not.

Asked soon after they were sent, and ever more rarely. What is counted is accepted; what is not an hour later is sent
again, as one in doubt is that was found not counted; what cannot be told in a day is in doubt.
"""

from __future__ import annotations

import logging

from ..core.clock import SECOND_US
from ..core.states import FIRST_PROOF_US
from ..errors import KeyRefused, RemoteError
from ..ledger.doubts import Settled, doubt_streamed, next_proof_at_us, streamed
from ..ledger.rows import RunRef
from .doubt import Asking, settle_places
from .stations import Stations

log = logging.getLogger("tallymark")
# How long a run waits for Stripe's sums to show what it has just streamed; the next run goes on.
PATIENCE_SECONDS = 30
PAUSE_SECONDS = 1.0
# Requests for sums in one run, about: one is for a customer and meter, with up to a hundred hours of it. Stripe allows
# 500 reads for each of the account's payments in a month, and at least 10,000 (facts/stripe.md section 4).
READS_MAX = 2000
HOURS_MAX = 5000


def settle_streamed(stations: Stations, run: RunRef) -> Settled:
    """Ask Stripe about what was streamed, as it comes due within a little while, and settle what its sums show.

    Where Stripe cannot be asked, that is logged, and all stays as it is. A dry run asks nothing.
    """
    settled = Settled()
    if stations.stripe is None or next_proof_at_us(stations.ledger) is None:
        return settled
    try:
        doubt_streamed(stations.ledger, stations.clock.now_us())
        asking = Asking(stations.ledger, stations.stripe, stations.clock, READS_MAX)
        _settle_for_a_while(asking, run, settled)
    except (RemoteError, KeyRefused) as error:
        log.warning("what was streamed could not be compared with Stripe: %s", error)
    return settled


def _settle_for_a_while(asking: Asking, run: RunRef, settled: Settled) -> None:
    ledger, clock = asking.ledger, asking.clock
    until_us = clock.now_us() + PATIENCE_SECONDS * SECOND_US
    while (next_us := next_proof_at_us(ledger)) is not None and next_us <= until_us and asking.left:
        if next_us > clock.now_us():
            clock.sleep(max(PAUSE_SECONDS, (next_us - clock.now_us()) / SECOND_US))
        # One request tells all of a customer's hours, so what comes due in a moment is asked about with the rest.
        due_us = clock.now_us() + FIRST_PROOF_US
        settle_places(asking, run, streamed(ledger, due_us, HOURS_MAX), settled)
