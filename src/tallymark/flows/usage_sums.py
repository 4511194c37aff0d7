"""What billed traces come to, by customer, day, flow and model: stored for whole days, read again where that is stale.

Sums are exact: integers of micro-credits, and decimals that are written out whole. A stored sum is used only while no
trace of its customer and day has changed since (docs/adr/0036); so who reads sees the same, stored or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec

from ..core.clock import DAY_US
from ..core.credits import EXACT, MICROS_PER_CREDIT, round_to_micros
from ..ledger import Ledger
from ..ledger.database import Database
from ..ledger.usage_sums import PutUsageSum, store_some_sums
from ..rating.cards import RateCard
from .cards import stored_cards
from .subjects import NO_LIMIT

OTHER = "other"
NOT_KNOWN = "(not known)"
AI = "ai"


class Part(msgspec.Struct, frozen=True):
    """A component of a trace as its row keeps it: exact text."""

    name: str
    credits: str
    cost_usd: str


class _Components(msgspec.Struct, frozen=True):
    parts: tuple[Part, ...] = ()


_decode_components = msgspec.json.Decoder(_Components).decode
After = tuple[int, str, str]
"""A place in the traces of a customer: time, project and trace id of the one before."""
_PRICE_UNIT = Decimal(MICROS_PER_CREDIT)


@dataclass(slots=True)
class Component:
    """What a component came to, and the USD that it rests on, before any margin."""

    micros: int = 0
    cost_usd: Decimal = Decimal(0)

    def add(self, micros: int, cost_usd: Decimal) -> None:
        """Add more of it."""
        self.micros += micros
        self.cost_usd = EXACT.add(self.cost_usd, cost_usd)


@dataclass(slots=True)
class UsageSum:
    """Billed traces of a customer, a UTC day, a flow ('' for none) and a model, added up.

    `cost_usd` is what Langfuse reports; `revenue_usd` what the credits, less what was waived, cost at their moments.
    """

    day_us: int
    customer_id: str
    flow: str
    model: str
    traces: int = 0
    billed_micros: int = 0
    waived_micros: int = 0
    first_us: int = 0
    last_us: int = 0
    read_at_us: int = 0
    cost_usd: Decimal = Decimal(0)
    revenue_usd: Decimal = Decimal(0)
    components: dict[str, Component] = field(default_factory=dict)

    @property
    def charged_micros(self) -> int:
        """What was billed, less what was waived."""
        return self.billed_micros - self.waived_micros


def usage_sums(ledger: Ledger, db: Database, from_us: int, to_us: int, customer_id: str = "") -> Iterator[UsageSum]:
    """The usage of a range, of one customer or all, in no order. A key comes more than once if its day is cut."""
    place = {"from_day_us": from_us - from_us % DAY_US, "to_us": to_us, "customer_id": customer_id}
    apart = [(row["day_us"], row["customer_id"]) for row in db.stream("usage_stale", **place)]
    rows = db.stream("usage_sums_of" if customer_id else "usage_sums", **place)
    for day, of_day in groupby(rows, key=lambda row: (row["day_us"], row["customer_id"])):
        found = list(of_day)
        if all(from_us <= row["first_us"] and row["last_us"] < to_us for row in found):
            yield from map(_stored, found)
        else:
            apart.append(day)
    cards = stored_cards(ledger)
    for day_us, of_customer in apart:
        yield from _added_up(db, cards, of_customer, max(from_us, day_us), min(to_us, day_us + DAY_US))


def store_usage_sums(ledger: Ledger) -> None:
    """Add up what is stale, and store it. Each transaction takes some days, and each day is whole."""

    def add_up(db: Database, customer_id: str, day_us: int) -> list[PutUsageSum]:
        # Read inside the transaction: another process may have billed by a new card since the last one.
        cards = stored_cards(ledger)
        return [_row(each) for each in _added_up(db, cards, customer_id, day_us, day_us + DAY_US)]

    while store_some_sums(ledger, add_up):
        pass


def _row(found: UsageSum) -> PutUsageSum:
    parts = {name: (part.micros, str(part.cost_usd)) for name, part in found.components.items()}
    return PutUsageSum(
        found.day_us,
        found.customer_id,
        found.flow,
        found.model,
        found.traces,
        found.billed_micros,
        found.waived_micros,
        found.first_us,
        found.last_us,
        found.read_at_us,
        str(found.cost_usd),
        str(found.revenue_usd),
        msgspec.json.encode(parts).decode(),
    )


_decode_parts = msgspec.json.Decoder(dict[str, tuple[int, str]]).decode


def _stored(row: Any) -> UsageSum:
    parts = _decode_parts(row["components"])
    return UsageSum(
        row["day_us"],
        row["customer_id"],
        row["flow"],
        row["model"],
        row["traces"],
        row["billed_micros"],
        row["waived_micros"],
        row["first_us"],
        row["last_us"],
        row["read_at_us"],
        Decimal(row["cost_usd"]),
        Decimal(row["revenue_usd"]),
        {name: Component(micros, Decimal(cost_usd)) for name, (micros, cost_usd) in parts.items()},
    )


def _added_up(
    db: Database, cards: Mapping[str, RateCard], customer_id: str, from_us: int, to_us: int
) -> list[UsageSum]:
    """What the traces of a customer come to, from a range inside one day."""
    sums: dict[tuple[str, str], UsageSum] = {}
    day_us = from_us - from_us % DAY_US
    for row, model in billed_traces(db, customer_id, from_us, to_us, NO_LIMIT):
        key = (row["name"] or "", model)
        if key not in sums:
            sums[key] = UsageSum(day_us, customer_id, *key, first_us=row["timestamp_us"], last_us=row["timestamp_us"])
        _add(sums[key], row, cards)
    return list(sums.values())


def billed_traces(
    db: Database, customer_id: str, from_us: int, to_us: int, limit: int, after: After | None = None
) -> Iterator[tuple[Any, str]]:
    """The billed traces of a customer in a range, the newest first, behind a place in this order if one is given: each
    once, with its models as one key."""
    at_us, project_id, trace_id = after or (to_us, "", "")
    place = {"at_us": at_us, "after_project": project_id, "after_trace": trace_id}
    wanted = {"customer_id": customer_id, "from_us": from_us, "to_us": to_us, "limit": limit, **place}
    rows = db.stream("customer_traces", **wanted)
    for _, group in groupby(rows, key=lambda row: (row["project_id"], row["trace_id"])):
        of_trace = list(group)
        yield of_trace[0], models_text(of_trace)


def models_text(rows: Sequence[Any]) -> str:
    """The models of a trace as one key. A trace of several is not divided: its time belongs to none of them."""
    return ", ".join(dict.fromkeys(row["model"] for row in rows if row["model"])) or NOT_KNOWN


def _add(total: UsageSum, row: Any, cards: Mapping[str, RateCard]) -> None:
    at_us, parts = row["timestamp_us"], parts_of(row)
    total.traces += 1
    total.billed_micros += row["billed_micros"]
    total.waived_micros += row["waived_micros"]
    total.first_us, total.last_us = min(total.first_us, at_us), max(total.last_us, at_us)
    total.read_at_us = max(total.read_at_us, row["read_at_us"])
    costs_usd = {part.name: Decimal(part.cost_usd) for part in parts}
    for name, micros in micros_of(parts, row["billed_micros"]).items():
        total.components.setdefault(name, Component()).add(micros, costs_usd.get(name, Decimal(0)))
    # Cost is what Langfuse reports; the other components rest on prices of the rate card.
    total.cost_usd = EXACT.add(total.cost_usd, costs_usd.get(AI, Decimal(0)))
    credits = EXACT.divide(Decimal(row["billed_micros"] - row["waived_micros"]), _PRICE_UNIT)
    price_usd = cards[row["card_digest"]].credit_price_usd_at(at_us)
    total.revenue_usd = EXACT.add(total.revenue_usd, EXACT.multiply(credits, price_usd))


def parts_of(row: Any) -> tuple[Part, ...]:
    """The components of a trace, by its row."""
    return _decode_components(row["components"]).parts


def micros_of(parts: Sequence[Part], billed_micros: int) -> dict[str, int]:
    """What each component came to. A trace is rounded once; what that moves is told with its largest component."""
    micros = {part.name: round_to_micros(Decimal(part.credits)) for part in parts} or {OTHER: 0}
    largest = max(micros, key=lambda name: (micros[name], name))
    micros[largest] += billed_micros - sum(micros.values())
    return micros
