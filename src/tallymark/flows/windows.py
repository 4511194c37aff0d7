"""What Stripe says that windows of usage are worth, for those who settle doubts and for those who reconcile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.doubt import NO_CUSTOMER, NOTHING, Value, Window, total
from ..errors import NotFound
from ..meter.stripe_events import StripeMeter
from ..meter.summaries import Grouping, summaries


def all_meter_ids(stripe: StripeMeter) -> dict[str, list[str]]:
    """The ids of the account's meters by event name, which may have had several in its time."""
    found: dict[str, list[str]] = {}
    for meter in stripe.meters():
        found.setdefault(meter["event_name"], []).append(meter["id"])
    return found


def values_of(
    stripe: StripeMeter, ids: Mapping[str, Sequence[str]], span: Sequence[Window], grouping: Grouping | None
) -> dict[Window, Value]:
    """The values of windows of one customer and meter, and of those between them in which something was counted."""
    first, last = span[0], span[-1]
    try:
        found = [
            summaries(stripe, meter_id, first.customer_id, first.start_s, last.end_s, grouping)
            for meter_id in ids.get(first.meter, ())
        ]
    except NotFound:
        return dict.fromkeys(span, NO_CUSTOMER)
    width_s = first.end_s - first.start_s
    return {
        first._replace(start_s=start_s, end_s=start_s + width_s): total(each.get(start_s, NOTHING) for each in found)
        for start_s in {window.start_s for window in span}.union(*found)
    }
