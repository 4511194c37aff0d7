"""Invoices and invoice items over the API, and the judges of billing: invoiced, lost, unbilled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tallymark.core.clock import SECOND_US, Clock

from .errors import no_such
from .forms import Form, optional_choice, optional_text, refuse_unknown
from .invoice_items import InvoiceItems, invoice_item_json
from .invoice_shapes import invoice_json
from .invoicing import Invoice, finals, invoices_of_subscription, swept_items
from .meter_events import MeterEvents
from .meters import Meters
from .pages import PAGE_KEYS, page
from .shapes import Amount, Json, MeterEvent
from .subscriptions import EXPAND, Subscription, Subscriptions

_STATUSES = ("draft", "open", "paid", "uncollectible", "void")
_URL = "/v1/invoices"
_ITEMS_URL = "/v1/invoiceitems"


@dataclass(frozen=True, slots=True)
class Invoiced:
    """What one final invoice bills: the credits of its metered line, and its invoice items in cents."""

    invoice_id: str
    customer: str
    period_start_us: int
    period_end_us: int
    finalized_at_us: int
    credits: Amount
    item_amounts: tuple[int, ...]


class Invoices:
    """The invoices of the account, derived anew whenever they are asked for."""

    def __init__(
        self,
        clock: Clock,
        meters: Meters,
        meter_events: MeterEvents,
        subscriptions: Subscriptions,
        items: InvoiceItems,
        *,
        livemode: bool,
    ) -> None:
        self._clock, self._meters, self._meter_events = clock, meters, meter_events
        self._subscriptions, self._items, self._livemode = subscriptions, items, livemode

    def list(self, form: Form, _identity: str) -> Json:
        """GET /v1/invoices: the newest first."""
        refuse_unknown(form, PAGE_KEYS | {"customer", "status", "subscription"})
        status = optional_choice(form, "status", _STATUSES)
        customer, subscription = optional_text(form, "customer"), optional_text(form, "subscription")
        found = [
            self._json(one)
            for one in reversed(self._made(customer))
            if subscription in (None, one.subscription.id) and status in (None, self._status(one))
        ]
        return page(form, found, _URL)

    def get(self, form: Form, identity: str) -> Json:
        """GET /v1/invoices/{id}. Raises Refusal (404)."""
        refuse_unknown(form, EXPAND)
        for one in self._made():
            if one.id == identity:
                return self._json(one)
        raise no_such("invoice", identity, "id")

    def create_item(self, form: Form, _identity: str) -> Json:
        """POST /v1/invoiceitems: pending until the customer's next invoice is made. Raises Refusal (400)."""
        return invoice_item_json(self._items.add(form), None, self._livemode)

    def list_items(self, form: Form, _identity: str) -> Json:
        """GET /v1/invoiceitems: the newest first; `pending` for those on no invoice, or on one."""
        refuse_unknown(form, PAGE_KEYS | {"customer", "pending"})
        customer, pending = optional_text(form, "customer"), optional_choice(form, "pending", ("false", "true"))
        invoice_of = {item.id: one.id for one in self._made(customer) for item in one.items}
        found = [
            invoice_item_json(item, invoice_of.get(item.id), self._livemode)
            for item in reversed(self._items.of_customer(customer))
            if pending in (None, "false" if item.id in invoice_of else "true")
        ]
        return page(form, found, _ITEMS_URL)

    def invoiced(self, customer: str | None = None) -> Sequence[Invoiced]:
        """What the final invoices of a customer, or of all, bill; the oldest first."""
        return [_invoiced(one) for one in self._made(customer) if self._is_final(one)]

    def lost(self) -> Sequence[MeterEvent]:
        """Counted meter events that came after the invoices of all periods that hold them were final."""
        return [one for one, finals_us in self._finals() if finals_us and one.received_at_us >= max(finals_us)]

    def unbilled(self) -> Sequence[MeterEvent]:
        """Counted meter events that no billed period of a subscription holds."""
        return [one for one, finals_us in self._finals() if not finals_us]

    def _finals(self) -> Iterator[tuple[MeterEvent, Sequence[int]]]:
        for (customer, meter_id), meter_events in self._meter_events.by_customer().items():
            yield from finals(self._of(customer, meter_id), meter_events)

    def _of(self, customer: str, meter_id: str) -> Sequence[Subscription]:
        return [one for one in self._subscriptions.started(customer) if one.meter_id == meter_id]

    def _made(self, customer: str | None = None) -> Sequence[Invoice]:
        """All invoices of a customer, or of all, up to now, with their items; the oldest first."""
        made = [invoice for one in self._subscriptions.started(customer) for invoice in self._of_subscription(one)]
        swept = swept_items(made, self._items.of_customer(customer))
        with_items = [replace(one, items=tuple(swept.get(one.id, ()))) for one in made]
        return sorted(with_items, key=lambda one: (one.created_us, one.id))

    def _of_subscription(self, subscription: Subscription) -> Sequence[Invoice]:
        meter_events = self._meter_events.of_customer(subscription.customer, subscription.meter_id)
        meter = self._meters.find(subscription.meter_id)
        return invoices_of_subscription(subscription, meter, meter_events, self._clock.now_us())

    def _is_final(self, invoice: Invoice) -> bool:
        return invoice.finalizes_us <= self._clock.now_us()

    def _status(self, invoice: Invoice) -> str:
        return "paid" if self._is_final(invoice) else "draft"

    def _json(self, invoice: Invoice) -> Json:
        return invoice_json(invoice, self._is_final(invoice), self._livemode)


def _invoiced(invoice: Invoice) -> Invoiced:
    return Invoiced(
        invoice_id=invoice.id,
        customer=invoice.subscription.customer,
        period_start_us=invoice.period.start_seconds * SECOND_US,
        period_end_us=invoice.period.end_seconds * SECOND_US,
        finalized_at_us=invoice.finalizes_us,
        credits=invoice.quantity,
        item_amounts=tuple(item.amount for item in invoice.items),
    )
