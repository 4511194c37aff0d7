"""The sandbox's own routes: for a person with curl, and for a test whose sandbox is another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from ..wire import Request
from .periods import Every
from .shapes import Json, MeterEvent

if TYPE_CHECKING:
    from .service import SandboxStripe

OwnHandler = Callable[[Request], Any]


class Rejections(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /sandbox/rejections: see `SandboxStripe.reject_next`."""

    code: str
    count: int = 1
    message: str | None = None


class Subscribed(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /sandbox/subscriptions: see `SandboxStripe.add_subscription`."""

    customer: str
    event_name: str
    started_at_us: int
    period: Every = "month"
    anchor_us: int | None = None
    unit_amount_decimal: Decimal = Decimal(1)
    grace_hours: float = 1
    ends_at_us: int | None = None
    currency: str = "usd"


def own_routes(stripe: SandboxStripe) -> Mapping[str, OwnHandler]:
    """What each "METHOD /path" answers. A handler raises ValueError for a body that is wrong."""
    return {
        "GET /sandbox/tally": lambda _request: [
            {"customer": customer, "event_name": event_name, "value": value}
            for (customer, event_name), value in stripe.tally().items()
        ],
        "GET /sandbox/requests": lambda _request: {
            "counts": stripe.counts(),
            "requests": [asdict(request) for request in stripe.requests()],
        },
        "GET /sandbox/meter_events": lambda _request: [_shown(one) for one in stripe.meter_events()],
        "GET /sandbox/invoiced": lambda _request: [asdict(one) for one in stripe.invoiced()],
        "GET /sandbox/lost": lambda _request: [_shown(one) for one in stripe.lost()],
        "GET /sandbox/unbilled": lambda _request: [_shown(one) for one in stripe.unbilled()],
        "POST /sandbox/rejections": lambda request: _reject(stripe, request),
        "POST /sandbox/subscriptions": lambda request: _subscribe(stripe, request),
    }


def _shown(meter_event: MeterEvent) -> Json:
    return {**asdict(meter_event), "counted": meter_event.counted, "rejected_later": meter_event.rejected_later}


def _reject(stripe: SandboxStripe, request: Request) -> Json:
    wanted = msgspec.json.decode(request.body, type=Rejections)
    stripe.reject_next(wanted.count, wanted.code, wanted.message)
    return {"count": wanted.count}


def _subscribe(stripe: SandboxStripe, request: Request) -> Json:
    wanted = msgspec.json.decode(request.body, type=Subscribed)
    return {"id": stripe.add_subscription(**msgspec.structs.asdict(wanted)).id}
