"""Invoice items: what no metered line can bill any more goes on the customer's next invoice, once.

The order of the steps is the guarantee: the decision is committed before Stripe is asked, and names what it will say;
Stripe is asked whether it has it before it is asked to make it; then the usage is taken back as invoiced. Whatever was
cut off, the same command goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from typing import Any

import msgspec

from ..core.clock import format_time
from ..core.credits import EXACT, format_micros
from ..core.money import amount_of
from ..errors import ConfigError, Refused
from ..ledger import Ledger
from ..ledger.held import Word, begin_invoicing, finish_invoicing, open_invoicing, refuse_invoicing
from ..ledger.rows import RunRef
from ..meter.invoice_items import NewItem, create_item, find_item
from ..meter.stripe_events import StripeMeter
from ..meter.subscriptions import Item, items_of
from .cards import stored_cards

FALLBACK_CURRENCY = "usd"
CENTS_PER_USD = 100


class Draft(msgspec.Struct, frozen=True):
    """What an invoice item is going to say; `amount` is in the smallest unit of the currency."""

    customer: str
    currency: str
    amount: int
    price: str
    description: str
    start_us: int
    end_us: int


class Prices:
    """What customers pay for a credit of a meter, as their subscriptions say; each is asked for once."""

    def __init__(self, stripe: StripeMeter) -> None:
        self._stripe = stripe
        self._items: dict[str, list[Item]] = {}

    def item_of(self, customer_id: str, event_name: str) -> Item | None:
        """The customer's item for a meter; of several the one whose period ends last."""
        ids = {meter["id"] for meter in self._meters if meter["event_name"] == event_name}
        if customer_id not in self._items:
            self._items[customer_id] = items_of(self._stripe, customer_id)
        found = [item for item in self._items[customer_id] if item.meter_id in ids]
        return max(found, key=lambda item: item.period.end_us, default=None)

    @cached_property
    def _meters(self) -> list[dict[str, Any]]:
        return self._stripe.meters()


def draft(ledger: Ledger, prices: Prices, meter_event_id: str) -> Draft:
    """The invoice item for a meter event: the one that was begun, or a new one at the subscription's price.

    Raises ConfigError if it would be worth nothing, or no price fits; KeyRefused, Unreachable or Unavailable.
    """
    if (begun := open_invoicing(ledger, meter_event_id)) is not None:
        return msgspec.json.decode(begun.detail, type=Draft)
    event = next(iter(ledger.query("meter_event", meter_event_id=meter_event_id)))
    currency, amount, price = _price(ledger, prices, event)
    if amount < 1:
        raise ConfigError(
            f"the {format_micros(event['entries_micros'])} credits of {meter_event_id} come to less than one "
            f"{currency.upper()} cent, which no invoice item can say; bill them now, or waive them."
        )
    start, end = format_time(event["bucket_start_us"]), format_time(event["bucket_end_us"])
    description = f"{format_micros(event['entries_micros'])} credits of usage from {start} to {end}, billed late"
    return Draft(
        event["customer_id"], currency, amount, price, description, event["bucket_start_us"], event["bucket_end_us"]
    )


def bill_by_invoice_item(
    ledger: Ledger, stripe: StripeMeter, run: RunRef, word: Word, meter_event_id: str, item: Draft
) -> int:
    """Make the invoice item, or find that it was made, and take the usage back; the number of the decision."""
    begun = begin_invoicing(ledger, run, word, meter_event_id, msgspec.json.encode(item).decode())
    said = msgspec.json.decode(begun.detail, type=Draft)
    new = NewItem(
        meter_event_id,
        begun.decision_id,
        said.customer,
        said.currency,
        said.amount,
        said.description,
        said.start_us,
        said.end_us,
    )
    try:
        item_id = find_item(stripe, said.customer, meter_event_id) or create_item(stripe, new)
    except Refused as error:
        refuse_invoicing(ledger, run, begun, str(error))
        raise
    finish_invoicing(ledger, run, begun, item_id)
    return begun.decision_id


def _price(ledger: Ledger, prices: Prices, event: Any) -> tuple[str, int, str]:
    """Currency, amount, and how it came about."""
    item = prices.item_of(event["customer_id"], event["meter"])
    if item is not None and item.unit_price is not None:
        amount = amount_of([(event["entries_micros"], item.unit_price)])
        return item.currency, amount, f"{item.unit_price} {item.currency} cents for one credit, as its subscription"
    if item is not None and item.currency != FALLBACK_CURRENCY:
        raise ConfigError(
            f"the price of {event['customer_id']} is in {item.currency.upper()} and not one per unit, so what "
            f"{event['meter_event_id']} costs is not known; bill it now, or waive it."
        )
    return FALLBACK_CURRENCY, amount_of(_shares(ledger, event)), "the credit price of the rate card"


def _shares(ledger: Ledger, event: Any) -> Iterator[tuple[int, Decimal]]:
    """Micro-credits, and the price of a credit in cents by the card and the time that a trace was rated by."""
    cards = stored_cards(ledger)
    for row in ledger.query("covered_by", meter_event_id=event["meter_event_id"]):
        usd = cards[row["card_digest"]].credit_price_usd_at(row["timestamp_us"])
        yield row["amount_micros"], EXACT.multiply(usd, Decimal(CENTS_PER_USD))
