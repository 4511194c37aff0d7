"""Doubt: meter events whose answers are missing are settled by what Stripe says that their windows are worth.

What certainly was not counted is sent by the next claim, under the identifier that it has.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

from .. import machine
from ..core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Clock
from ..core.doubt import Window, spans_of, windows_of
from ..errors import KeyRefused, RemoteError
from ..ledger import Ledger
from ..ledger.doubts import Asked, Place, Settled, questions, settle_window, tells
from ..ledger.meter_windows import meter_windows
from ..ledger.reports import close_reports
from ..ledger.rows import RunRef
from ..meter.stripe_events import StripeMeter
from ..meter.summaries import Grouping
from .stations import Stations
from .windows import all_meter_ids, values_of

log = logging.getLogger("tallymark")
# Requests for summaries in one run, about; Stripe allows at least 10,000 reads a month (facts/stripe.md section 4).
READS_MAX = 100
READ_THREADS = 8
HOUR_S, DAY_S, MINUTE_S = HOUR_US // SECOND_US, DAY_US // SECOND_US, MINUTE_US // SECOND_US
GROUPED: tuple[tuple[int, Grouping], ...] = ((HOUR_S, "hour"), (DAY_S, "day"))


def settle_doubts(stations: Stations, run: RunRef, *, at_once: bool = False) -> Settled:
    """Ask about windows with meter events in doubt, or under suspicion, and settle what allows one answer only.

    First by the hour, a page of a hundred hours at a time; what that leaves open by the minute. A pre-aggregated meter
    has no sums but those of its own windows. A dry run asks nothing.
    Where Stripe cannot be asked, that is logged, and all stays as it is. `at_once`: also what was asked hours ago.
    """
    settled = Settled()
    places = questions(stations.ledger, stations.clock.now_us(), at_once=at_once)
    if stations.stripe is None or not places:
        return settled
    try:
        settle_places(Asking(stations.ledger, stations.stripe, stations.clock, READS_MAX), run, places, settled)
    except (RemoteError, KeyRefused) as error:
        log.warning("meter events in doubt could not be compared with Stripe: %s", error)
    return settled


def settle_places(asking: Asking, run: RunRef, places: Sequence[Place], settled: Settled) -> None:
    """Ask about the windows in which these places lie, and settle what their values decide.

    Raises KeyRefused, Unreachable or Unavailable; what was settled before stays so.
    """
    for width_s, grouping in GROUPED:
        _settle(asking, run, windows_of(asking.of_width(places, width_s), width_s), grouping, settled)
    left, settled.left = settled.left, []
    _settle(asking, run, windows_of(left, MINUTE_S), None, settled)
    close_reports(asking.ledger, asking.clock.now_us())


def _settle(
    asking: Asking, run: RunRef, windows: Sequence[Window], grouping: Grouping | None, settled: Settled
) -> None:
    for asked in asking.ask(windows, grouping):
        settle_window(asking.ledger, run, asked, settled)


class Asking:
    """Asks Stripe about windows, within a number of requests. Raises KeyRefused, Unreachable or Unavailable."""

    def __init__(self, ledger: Ledger, stripe: StripeMeter, clock: Clock, reads_max: int) -> None:
        self.ledger, self.clock = ledger, clock
        self._stripe, self._requests_before, self._reads_max = stripe, stripe.requests, reads_max
        self._meter_ids, self._windows_s = all_meter_ids(stripe), meter_windows(ledger)

    @property
    def left(self) -> int:
        """How many requests are left."""
        return max(0, self._reads_max - (self._stripe.requests - self._requests_before))

    def of_width(self, places: Sequence[Place], width_s: int) -> list[Place]:
        """Those places that are asked about by windows of a width: an hour, or what their meter counts by itself."""
        return [place for place in places if self._windows_s.get(place[1], HOUR_S) == width_s]

    def ask(self, windows: Sequence[Window], grouping: Grouping | None) -> Iterator[Asked]:
        """What Stripe says of each window that may tell something, as long as requests are left; some at a time."""
        telling = [window for window in windows if tells(self.ledger, window, self.clock.now_us())]
        spans = list(spans_of(telling)) if grouping else [[window] for window in telling]
        if len(spans) > (left := self.left):
            log.info("%d requests for summaries are made at most; the next run goes on", self._reads_max)
        with machine.current().pool(READ_THREADS, "sums") as threads:
            for answers in threads.map(partial(self._ask, grouping), spans[:left]):
                yield from answers

    def _ask(self, grouping: Grouping | None, span: Sequence[Window]) -> list[Asked]:
        asked_at_us = self.clock.now_us()
        values = values_of(self._stripe, self._meter_ids, span, grouping)
        # A part of a pre-aggregated meter's window is worth nothing by itself.
        is_last = grouping is None or span[0].meter in self._windows_s
        return [Asked(window, values[window], asked_at_us, last=is_last) for window in span]
