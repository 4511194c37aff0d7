"""Reports: what Stripe took and did not count is taken back, and sent again once the cause is mended."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import cache

from ..clock import SystemClock
from ..config import Config, require_stripe, require_webhook
from ..core.clock import DAY_US, HOUR_US, MINUTE_US, Clock
from ..core.credits import MICROS_PER_CREDIT
from ..core.reports import CUSTOMER_NOT_FOUND, REPORTS_KEPT_US, CustomerChange, codes_in
from ..errors import KeyRefused, RemoteError
from ..ledger import Ledger
from ..ledger.corrections import Decided
from ..ledger.database import Row
from ..ledger.guard import using_ledger
from ..ledger.periods import doubt_periods
from ..ledger.reports import (
    apply_report,
    close_reports,
    offer_again,
    put_notifications,
    received,
    reported,
)
from ..ledger.rows import RunRef
from ..meter.reports import fetch_report, new_notifications, read_notification
from ..meter.stripe_events import StripeMeter
from .stations import Stations, open_meter

log = logging.getLogger("tallymark")
# However often a sync runs, 4,320 reads a month at most; Stripe allows 10,000 (facts/stripe.md section 4).
POLL_EVERY_US = 10 * MINUTE_US
# Reports may become visible out of order.
OVERLAP_US = HOUR_US
FETCHED_MAX = 100
# One report that cannot be fetched does not stop the others; with so many, Stripe is away.
FAILED_MAX = 3
CAUSES_MAX = 1000
# A cause that is not mended is looked at again after this part of the time since the report: often at first.
PATIENCE_PART = 10
_POLLED = "reports polled"
UNSEEN = (
    "Stripe was last asked for its reports %d days ago, and keeps them for 30: only `tallymark reconcile` shows what "
    "it rejected before that; compare that time."
)


def take_reports(stations: Stations, run: RunRef) -> int:
    """Read what Stripe reports, take back what it did not count, and offer again what is mended; how many taken back.

    Where Stripe cannot be asked, or the key may not read events, that is logged, and the run goes on.
    """
    stripe, taken = stations.stripe, 0
    if stripe is None:
        return taken
    with _logged("Stripe's reports on usage that it did not count could not be read"):
        _poll(stations.ledger, stripe, run.now_us)
        taken = _apply(stations.ledger, stripe, stations.clock)
    with _logged("whether rejected usage may be sent again could not be asked"):
        _offer_again(stations.ledger, stripe, run)
    return taken


def receive_webhook(config: Config, body: bytes, signature: str | None, clock: Clock | None = None) -> bool:
    """Take a webhook of Stripe: whether it is one that matters. A webhook that comes again changes nothing.

    A report is stored, and applied if Stripe can be asked. After a change of a customer's subscriptions or invoices the
    next sync asks Stripe for their periods anew; what the webhook says of them is not believed.
    `body` is the request's body as it came, `signature` its header Stripe-Signature. Raises NotificationRefused for one
    that Stripe did not sign, ConfigError or LedgerError.
    """
    clock = clock or SystemClock()
    notification = read_notification(body, signature, require_webhook(config), clock.now_us())
    if notification is None:
        return False
    require_stripe(config)
    if isinstance(notification, CustomerChange):
        with using_ledger(config.ledger_url) as ledger:
            doubt_periods(ledger, notification.customer_id, notification.created_us)
        return True
    with using_ledger(config.ledger_url) as ledger:
        put_notifications(ledger, [notification], clock.now_us())
        with _logged("a report of Stripe could not be fetched"):
            _apply(ledger, open_meter(config, clock), clock)
    return True


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Go on without Stripe's answer, and say so once."""
    try:
        yield
    except (RemoteError, KeyRefused) as error:
        log.warning("%s: %s", what, error)


def _poll(ledger: Ledger, stripe: StripeMeter, now_us: int) -> None:
    """Store what Stripe reports, unless that was asked a moment ago, or nothing was ever sent.

    From where it goes on is told by Stripe's times alone: this machine's clock may have been wrong at the last poll.
    """
    first_sent_us = next(ledger.query("first_sent"))["sent_at_us"]
    if first_sent_us is None:
        return
    polled_us, newest_us = _last_poll(ledger) or (first_sent_us, 0)
    if 0 <= now_us - polled_us < POLL_EVERY_US:
        return
    if now_us - polled_us > REPORTS_KEPT_US:
        log.warning(UNSEEN, (now_us - polled_us) // DAY_US)
    since_us = newest_us - OVERLAP_US if newest_us else min(first_sent_us, now_us) - REPORTS_KEPT_US
    found = list(new_notifications(stripe, since_us))
    put_notifications(ledger, found, now_us)
    newest_us = max([newest_us, *(one.created_us for one in found)])
    ledger.put_fact(_POLLED, f"{now_us} {newest_us}")


def _last_poll(ledger: Ledger) -> tuple[int, int] | None:
    """When the last poll was, and how new the newest report was that any poll has seen, 0 for none."""
    polled, _, newest = (ledger.fact(_POLLED) or "").partition(" ")
    return (int(polled), int(newest or "0")) if polled else None


def _apply(ledger: Ledger, stripe: StripeMeter, clock: Clock) -> int:
    """Fetch the reports that are stored and not yet applied, and take back what they name; how many meter events."""
    notifications = received(ledger, FETCHED_MAX)
    if not notifications:
        return 0
    event_names = {meter["id"]: meter["event_name"] for meter in stripe.meters()}
    taken = failed = 0
    for notification in notifications:
        try:
            report = fetch_report(stripe, notification, event_names)
        except RemoteError as error:
            log.warning("the report %s cannot be fetched now: %s", notification.notification_id, error)
            failed += 1
            if failed == FAILED_MAX:
                break
        else:
            taken += apply_report(ledger, report, clock.now_us())
    close_reports(ledger, clock.now_us())
    return taken


# --- sending again


def _offer_again(ledger: Ledger, stripe: StripeMeter, run: RunRef) -> None:
    """Issue anew what was reported and whose cause is mended; look at the others again later, ever less often."""
    causes, mended, later_us = _Causes(stripe), {}, {}
    for row in reported(ledger, run.now_us, CAUSES_MAX):
        why = causes.mended(row["reason"], row["customer_id"], row["meter"])
        if why:
            mended[row["meter_event_id"]] = _decided(row, why)
        else:
            later_us[row["meter_event_id"]] = run.now_us + (run.now_us - row["reported_at_us"]) // PATIENCE_PART
    if mended or later_us:
        offer_again(ledger, run, mended, later_us)


def _decided(row: Row, why: str) -> Decided:
    amount_micros = row["credits"] * MICROS_PER_CREDIT
    return Decided("tallymark", "reissue", "meter_event", row["meter_event_id"], amount_micros, why)


class _Causes:
    """Whether what Stripe reported is mended by now, asked once a run for each customer, and once for all meters."""

    def __init__(self, stripe: StripeMeter) -> None:
        self._customer_problem = cache(stripe.customer_problem)
        self._meters = cache(stripe.meters)

    def mended(self, reason: str, customer_id: str, meter: str) -> str:
        """What has changed, in words; empty if a cause is still there."""
        found = [self._changed(code, customer_id, meter) for code in codes_in(reason)]
        return " and ".join(dict.fromkeys(found)) if all(found) else ""

    def _changed(self, code: str, customer_id: str, meter: str) -> str:
        if code == CUSTOMER_NOT_FOUND:
            return "" if self._customer_problem(customer_id) else f"the customer {customer_id} exists"
        active = any(one["event_name"] == meter and one["status"] == "active" for one in self._meters())
        return f"the meter of {meter!r} is active" if active else ""
