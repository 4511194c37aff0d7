"""Invoices and their lines as JSON, as far as billing reads them (facts/stripe.md section 7)."""

from __future__ import annotations

from decimal import Decimal

from tallymark.core.clock import SECOND_US

from .invoice_items import InvoiceItem
from .invoicing import Invoice
from .shapes import Json, list_json


def invoice_json(invoice: Invoice, final: bool, livemode: bool) -> Json:
    """`invoice`: a draft until it is final, then paid at once, as by a card that never fails."""
    finalizes_seconds = invoice.finalizes_us // SECOND_US
    finalized_at = finalizes_seconds if final else None
    lines = [_usage_line(invoice, livemode), *(_item_line(invoice, item, livemode) for item in invoice.items)]
    total = sum(line["amount"] for line in lines)
    return {
        "id": invoice.id,
        "object": "invoice",
        "amount_due": max(0, total),
        "amount_paid": max(0, total) if final else 0,
        "amount_remaining": 0 if final else max(0, total),
        "automatically_finalizes_at": None if final else finalizes_seconds,
        "billing_reason": "subscription_cycle",
        "collection_method": "charge_automatically",
        "created": invoice.period.end_seconds,
        "currency": invoice.subscription.currency,
        "customer": invoice.subscription.customer,
        "lines": list_json(f"/v1/invoices/{invoice.id}/lines", lines, False),
        "livemode": livemode,
        "metadata": {},
        "parent": {
            "quote_details": None,
            "subscription_details": {"metadata": {}, "subscription": invoice.subscription.id},
            "type": "subscription_details",
        },
        "period_end": invoice.period.end_seconds,
        "period_start": invoice.period.start_seconds,
        "status": "paid" if final else "draft",
        "status_transitions": {
            "finalized_at": finalized_at,
            "marked_uncollectible_at": None,
            "paid_at": finalized_at,
            "voided_at": None,
        },
        "subtotal": total,
        "total": total,
    }


def _usage_line(invoice: Invoice, livemode: bool) -> Json:
    subscription, period, quantity = invoice.subscription, invoice.period, invoice.quantity
    details = {"price": subscription.price_id, "product": subscription.product_id}
    item = {
        "invoice_item": None,
        "proration": False,
        "subscription": subscription.id,
        "subscription_item": subscription.item_id,
    }
    return {
        **_line(invoice, "usage", invoice.usage_cents, livemode),
        "description": "Usage",
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": item,
            "type": "subscription_item_details",
        },
        "period": {"end": period.end_seconds, "start": period.start_seconds},
        "pricing": _pricing(details, f"{subscription.unit_amount:f}"),
        "quantity": int(quantity),
        "quantity_decimal": f"{Decimal(quantity):f}",
    }


def _item_line(invoice: Invoice, item: InvoiceItem, livemode: bool) -> Json:
    details = {"invoice_item": item.id, "proration": False, "subscription": None}
    return {
        **_line(invoice, item.id, item.amount, livemode),
        "description": item.description,
        "metadata": item.metadata,
        "parent": {
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "period": {"end": item.end_seconds, "start": item.start_seconds},
        "pricing": _pricing(None, f"{item.unit_amount:f}"),
        "quantity": item.quantity,
        "quantity_decimal": str(item.quantity),
    }


def _line(invoice: Invoice, name: str, amount: int, livemode: bool) -> Json:
    return {
        "id": f"il_{invoice.id.removeprefix('in_')}_{name}",
        "object": "line_item",
        "amount": amount,
        "currency": invoice.subscription.currency,
        "discountable": False,
        "invoice": invoice.id,
        "livemode": livemode,
        "subtotal": amount,
    }


def _pricing(price_details: Json | None, unit_amount_decimal: str) -> Json:
    return {"price_details": price_details, "type": "price_details", "unit_amount_decimal": unit_amount_decimal}
