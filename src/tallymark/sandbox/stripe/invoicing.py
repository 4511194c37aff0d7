"""Which invoices there are, and what is on them: derived from subscriptions, meter events, items and the clock. Pure.

At the end of a period its invoice is made, as a draft; the grace period later it is final. Usage belongs to the period
of its timestamp, and is on that period's invoice if it was received before the invoice was final; later it is on none
(facts/stripe.md section 7). Subscriptions have no invoice for their beginning: it would be empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tallymark.core.clock import SECOND_US

from .invoice_items import InvoiceItem, cents
from .periods import Period, period_at
from .shapes import Amount, Meter, MeterEvent
from .subscriptions import Subscription
from .tally import aggregate, effective


@dataclass(frozen=True, slots=True)
class Invoice:
    """The invoice of one period; `quantity` is what its metered line bills."""

    subscription: Subscription
    period: Period
    quantity: Amount
    items: tuple[InvoiceItem, ...] = ()

    @property
    def id(self) -> str:
        """Its id, the same however often it is derived."""
        return f"in_sandbox_{self.subscription.number:04d}_{self.period.end_seconds}"

    @property
    def created_us(self) -> int:
        """When it was made: at the end of its period."""
        return self.period.end_seconds * SECOND_US

    @property
    def finalizes_us(self) -> int:
        """When it becomes final, or became."""
        return self.subscription.finalizes_seconds(self.period) * SECOND_US

    @property
    def usage_cents(self) -> int:
        """The amount of its metered line."""
        return cents(self.subscription.unit_amount, self.quantity)


def invoices_of_subscription(
    subscription: Subscription, meter: Meter, meter_events: Iterable[MeterEvent], now_us: int
) -> list[Invoice]:
    """Its invoices up to now, the oldest first, without invoice items. The meter events are those of its customer."""
    now_seconds = now_us // SECOND_US
    closed = [period for period in subscription.periods(now_seconds) if period.end_seconds <= now_seconds]
    known = list(meter_events)
    # A window belongs to the period of the last one in it, whatever the others say; other meters have no windows.
    inside = _by_period(closed, known) if meter.window is None else dict.fromkeys(closed, known)
    return [
        Invoice(subscription, period, _billed(meter, inside.get(period, ()), subscription, period)) for period in closed
    ]


def _by_period(periods: Sequence[Period], meter_events: Iterable[MeterEvent]) -> Mapping[Period, Sequence[MeterEvent]]:
    found: dict[Period, list[MeterEvent]] = {}
    for meter_event in meter_events:
        period = period_at(periods, meter_event.timestamp_seconds)
        if period is not None:
            found.setdefault(period, []).append(meter_event)
    return found


def _billed(meter: Meter, meter_events: Iterable[MeterEvent], subscription: Subscription, period: Period) -> Amount:
    """What a metered line bills; a negative sum bills nothing (facts/stripe.md section 1)."""
    finalizes_us = subscription.finalizes_seconds(period) * SECOND_US
    in_time = [one for one in meter_events if _is_billed(one, finalizes_us)]
    inside = [one for one in effective(meter, in_time) if period_at([period], one.timestamp_seconds) is not None]
    return max(0, aggregate(meter, inside))


def _is_billed(meter_event: MeterEvent, finalizes_us: int) -> bool:
    # A cancellation never touches a final invoice (facts/stripe.md section 3).
    cancelled_at_us = meter_event.cancelled_at_us
    return (
        meter_event.rejection is None
        and meter_event.received_at_us < finalizes_us
        and (cancelled_at_us is None or cancelled_at_us >= finalizes_us)
    )


def swept_items(invoices: Sequence[Invoice], items: Iterable[InvoiceItem]) -> dict[str, list[InvoiceItem]]:
    """By invoice id, the items that it took up: those of its customer that were pending when it was made."""
    swept: dict[str, list[InvoiceItem]] = {}
    oldest_first = sorted(invoices, key=lambda one: (one.created_us, one.id))
    for item in items:
        taken_by = next((one for one in oldest_first if _takes(one, item)), None)
        if taken_by is not None:
            swept.setdefault(taken_by.id, []).append(item)
    return swept


def _takes(invoice: Invoice, item: InvoiceItem) -> bool:
    subscription = invoice.subscription
    fits = (subscription.customer, subscription.currency) == (item.customer, item.currency)
    return fits and item.created_us < invoice.created_us


def finals(
    subscriptions: Sequence[Subscription], meter_events: Sequence[MeterEvent]
) -> Iterator[tuple[MeterEvent, list[int]]]:
    """The counted ones of one customer and meter, each with the moments (µs) at which the invoices of the periods of
    these subscriptions that hold it become final."""
    latest_seconds = max((one.timestamp_seconds for one in meter_events), default=0)
    periods = [(one, one.periods(latest_seconds)) for one in subscriptions]
    for meter_event in meter_events:
        if meter_event.counted:
            holding = [(one, period_at(inside, meter_event.timestamp_seconds)) for one, inside in periods]
            yield meter_event, [one.finalizes_seconds(period) * SECOND_US for one, period in holding if period]
