"""Read the billing periods of customers with money to send, about once a period for each (docs/adr/0029)."""

from __future__ import annotations

from collections.abc import Sequence

from .. import machine
from ..ledger.periods import Checked, lanes_to_check, put_periods
from ..meter.stripe_events import StripeMeter
from ..meter.subscriptions import Item, items_of
from .meters import meter_ids
from .stations import Stations

CUSTOMERS = 50
# At two tenths of a second an answer, below Stripe's limit of 25 requests a second to one endpoint.
READ_THREADS = 4


def read_periods(stations: Stations) -> None:
    """Ask Stripe for the subscription items of customers whose periods are not known as of now, and store them.

    A dry run asks nothing: what is known decides. Raises KeyRefused, Unreachable or Unavailable.
    """
    stripe, now_us = stations.stripe, stations.clock.now_us()
    if stripe is None or stations.config.lateness.grace_us is None:
        return
    lanes = lanes_to_check(stations.ledger, now_us)
    if not lanes:
        return
    ids = meter_ids(stations)
    customers = sorted({customer_id for customer_id, _ in lanes})
    for at in range(0, len(customers), CUSTOMERS):
        found = _items_of_all(stripe, customers[at : at + CUSTOMERS])
        checked = [_checked(lane, found[lane[0]], ids.get(lane[1])) for lane in lanes if lane[0] in found]
        put_periods(stations.ledger, checked, now_us)


def _items_of_all(stripe: StripeMeter, customer_ids: Sequence[str]) -> dict[str, list[Item]]:
    with machine.current().pool(READ_THREADS, "periods") as threads:
        return dict(
            zip(customer_ids, threads.map(lambda customer_id: items_of(stripe, customer_id), customer_ids), strict=True)
        )


def _checked(lane: tuple[str, str], items: Sequence[Item], meter_id: str | None) -> Checked:
    """Of a meter that the settings no longer name nothing is known, and nothing is late."""
    return Checked(*lane, [item.period for item in items if item.meter_id == meter_id])
