"""What a meter counted for a customer in windows of time: GET /v1/billing/meters/{id}/event_summaries.

Facts: facts/stripe.md section 4. A page holds up to 100 windows, windows without usage may be missing, the end is
exclusive, values are floating point numbers, and nothing says how fresh they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

from ..core.doubt import Value
from ..errors import NotFound
from .stripe_events import StripeMeter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stripe

PAGE_ROWS = 100
NEEDS = "grant Meters: read (Stripe: Developers, API keys), which event summaries are read with"
# Beyond this, not every whole number is a double, so a value may stand for its neighbours.
EXACT_MAX = 2**53
Grouping = Literal["hour", "day"]


def summaries(
    meter: StripeMeter, meter_id: str, customer_id: str, start_s: int, end_s: int, grouping: Grouping | None = None
) -> dict[int, Value]:
    """The values of a customer's windows by their start, in unix seconds; a window that is missing counts nothing.

    `start_s` and `end_s` lie on whole hours or days of UTC where windows are grouped so; without grouping the whole
    range is one window, on whole minutes. Raises NotFound for a customer whom Stripe does not know, KeyRefused,
    Unreachable or Unavailable.
    """
    asked: dict[str, Any] = {"customer": customer_id, "start_time": start_s, "end_time": end_s, "limit": PAGE_ROWS}
    if grouping:
        asked["value_grouping_window"] = grouping
    return dict(_rows(meter, meter_id, asked))


def _rows(meter: StripeMeter, meter_id: str, asked: dict[str, Any]) -> Iterator[tuple[int, Value]]:
    after: str | None = ""
    while after is not None:
        rows, after = meter.patiently(partial(_page, meter, meter_id, asked, after), NEEDS)
        yield from rows


def _page(
    meter: StripeMeter, meter_id: str, asked: dict[str, Any], after: str
) -> tuple[list[tuple[int, Value]], str | None]:
    """The rows of one page, and after which row the next one begins; None if there is no next one."""
    more = {"starting_after": after} if after else {}
    try:
        page = meter.client.v1.billing.meters.event_summaries.list(meter_id, {**asked, **more})  # type: ignore[typeddict-item]
        rows = [(row.start_time, value_of(row.aggregated_value)) for row in page.data]
        return rows, page.data[-1].id if page.has_more and page.data else None
    except stripe.InvalidRequestError as error:
        if error.code == "resource_missing" and error.param == "customer":
            raise NotFound(f"Stripe does not know the customer {asked['customer']} in the mode of this key.") from error
        raise


def value_of(number: float) -> Value:
    """A value in whole credits where it is exactly that; else it is kept as it was said, as evidence."""
    whole = abs(number) < EXACT_MAX and number == int(number)
    return Value(int(number), str(int(number))) if whole else Value(None, repr(number))
