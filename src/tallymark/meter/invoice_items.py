"""Invoice items: usage that no metered line can bill any more, on the customer's next invoice.

Facts: facts/stripe.md section 7. Each names the meter event that it replaces, so that it is found again, and made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.clock import SECOND_US
from ..failpoints import Step
from .permissions import GRANT_INVOICES
from .stripe_events import StripeMeter


@dataclass(frozen=True, slots=True)
class NewItem:
    """What an invoice item says. `amount` is in the smallest unit of the currency; the usage lies in the period."""

    meter_event_id: str
    decision_id: int
    customer_id: str
    currency: str
    amount: int
    description: str
    start_us: int
    end_us: int


def find_item(meter: StripeMeter, customer_id: str, meter_event_id: str) -> str | None:
    """The id of the invoice item for a meter event, if there is one. Raises KeyRefused, Unreachable or Unavailable."""

    def ask() -> str | None:
        found = meter.client.v1.invoice_items.list({"customer": customer_id, "limit": 100})
        named = (str(item.id) for item in found.auto_paging_iter() if _meter_event_of(item) == meter_event_id)
        return next(named, None)

    return meter.patiently(ask, GRANT_INVOICES)


def _meter_event_of(item: Any) -> str | None:
    return (
        item.metadata["tallymark_meter_event"] if item.metadata and "tallymark_meter_event" in item.metadata else None
    )


def create_item(meter: StripeMeter, item: NewItem) -> str:
    """Make an invoice item and return its id; asked again within a day, Stripe answers with the same one.

    Raises KeyRefused, Unreachable or Unavailable, and Refused if Stripe will not make it.
    """

    def ask() -> str:
        made = meter.client.v1.invoice_items.create(
            {
                "customer": item.customer_id,
                "currency": item.currency,
                "amount": item.amount,
                "description": item.description,
                "period": {"start": item.start_us // SECOND_US, "end": item.end_us // SECOND_US},
                "metadata": {
                    "tallymark_decision": str(item.decision_id),
                    "tallymark_meter_event": item.meter_event_id,
                },
            },
            {"idempotency_key": f"{item.meter_event_id}:invoice-item:{item.decision_id}"},
        )
        return str(made.id)

    return meter.make(Step.STRIPE_INVOICE_ITEM, ask, GRANT_INVOICES)
