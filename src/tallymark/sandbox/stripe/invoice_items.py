"""Invoice items: amounts of a customer that wait for the next invoice (facts/stripe.md section 7)."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from tallymark.core.clock import SECOND_US, Clock

from .customers import Customers
from .errors import invalid, missing_param
from .forms import Form, optional_hash, optional_integer, optional_text, refuse_unknown, required_integer, required_text
from .shapes import Json

_CREATE_KEYS = frozenset(
    {"amount", "currency", "customer", "description", "expand", "metadata", "period", "quantity", "unit_amount_decimal"}
)
_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class InvoiceItem:
    """One amount in cents (`unit_amount` times `quantity`, rounded), with the period it is said to be for."""

    id: str
    customer: str
    amount: int
    unit_amount: Decimal
    quantity: int
    currency: str
    description: str | None
    metadata: Mapping[str, str]
    start_seconds: int
    end_seconds: int
    created_us: int


def cents(unit_amount: Decimal, quantity: Decimal | int) -> int:
    """Whole cents, halves away from zero: Stripe's rule is not published (facts/stripe.md section 7)."""
    return int((unit_amount * quantity).quantize(Decimal(1), ROUND_HALF_UP))


class InvoiceItems:
    """All invoice items, in the order they were made. Safe to share between threads."""

    def __init__(self, clock: Clock, customers: Customers) -> None:
        self._clock, self._customers = clock, customers
        self._items: list[InvoiceItem] = []
        self._lock = threading.Lock()

    def of_customer(self, customer: str | None) -> Sequence[InvoiceItem]:
        """Those of a customer, or all, in the order they were made."""
        return [one for one in self._items.copy() if customer in (None, one.customer)]

    def add(self, form: Form) -> InvoiceItem:
        """Make one of the parameters of POST /v1/invoiceitems. Raises Refusal (400)."""
        refuse_unknown(form, _CREATE_KEYS)
        customer = required_text(form, "customer")
        self._customers.require(customer, "customer")
        unit_amount, quantity = _amount(form)
        now_us = self._clock.now_us()
        start_seconds, end_seconds = _period(form, now_us // SECOND_US)
        with self._lock:
            item = InvoiceItem(
                id=f"ii_sandbox_{len(self._items) + 1:06d}",
                customer=customer,
                amount=cents(unit_amount, quantity),
                unit_amount=unit_amount,
                quantity=quantity,
                currency=(optional_text(form, "currency", 3) or "usd").lower(),
                description=optional_text(form, "description"),
                metadata=_metadata(form),
                start_seconds=start_seconds,
                end_seconds=end_seconds,
                created_us=now_us,
            )
            self._items.append(item)
            return item


def _amount(form: Form) -> tuple[Decimal, int]:
    """Unit amount in cents, and quantity. Raises Refusal (400) unless there is just one of `amount` and a unit's."""
    amount, quantity = optional_integer(form, "amount"), optional_integer(form, "quantity")
    unit_text = optional_text(form, "unit_amount_decimal")
    if amount is not None and (unit_text is not None or quantity is not None):
        raise invalid(
            "You may only specify one of these parameters: amount, unit_amount_decimal with quantity.", "amount"
        )
    if amount is not None:
        return Decimal(amount), 1
    if unit_text is None:
        raise missing_param("amount")
    if not _DECIMAL.fullmatch(unit_text):
        raise invalid(f"Invalid decimal: {unit_text}; must have at most 12 decimal places", "unit_amount_decimal")
    if quantity is not None and quantity < 0:
        raise invalid("Invalid quantity: must not be negative", "quantity")
    return Decimal(unit_text), 1 if quantity is None else quantity


def _period(form: Form, now_seconds: int) -> tuple[int, int]:
    asked = dict(optional_hash(form, "period"))
    if not asked:
        return now_seconds, now_seconds
    start_seconds, end_seconds = required_integer(asked, "start"), required_integer(asked, "end")
    if end_seconds < start_seconds:
        raise invalid("Invalid period: the end must not be before the start", "period")
    return start_seconds, end_seconds


def _metadata(form: Form) -> Mapping[str, str]:
    return {name: value for name, value in optional_hash(form, "metadata").items() if isinstance(value, str)}


def invoice_item_json(item: InvoiceItem, invoice_id: str | None, livemode: bool) -> Json:
    """`invoiceitem`; `invoice_id` is the invoice that took it up, or None while it is pending."""
    return {
        "id": item.id,
        "object": "invoiceitem",
        "amount": item.amount,
        "currency": item.currency,
        "customer": item.customer,
        "date": item.created_us // SECOND_US,
        "description": item.description,
        "discountable": False,
        "invoice": invoice_id,
        "livemode": livemode,
        "metadata": item.metadata,
        "parent": None,
        "period": {"end": item.end_seconds, "start": item.start_seconds},
        "pricing": {"price_details": None, "type": "price_details", "unit_amount_decimal": f"{item.unit_amount:f}"},
        "proration": False,
        "quantity": item.quantity,
        "quantity_decimal": str(item.quantity),
    }
