"""Usage: credits, cost, revenue and margin by customer, day or model. Reads only the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ..core.clock import format_time
from ..core.columns import Column, Kind
from ..core.credits import EXACT, MICROS_PER_CREDIT, format_micros, format_usd
from ..ledger import Ledger
from ..rating.cards import RateCard
from ..tables import new_file, write_table
from .cards import stored_cards

KEYS: dict[str, Callable[[Any], str]] = {
    "customer": lambda row: str(row["customer_id"]),
    "day": lambda row: format_time(row["timestamp_us"])[:10],
    "model": lambda row: row["model"] or "(not known)",
}
COLUMNS = ("key", "traces", "credits", "cost_usd", "revenue_usd", "margin_usd")
KINDS = (Kind.TEXT, Kind.INTEGER, Kind.AMOUNT, Kind.AMOUNT, Kind.AMOUNT, Kind.AMOUNT)


@dataclass(slots=True)
class _Sum:
    traces: int = 0
    billed_micros: int = 0
    cost_usd: Decimal = Decimal(0)
    revenue_usd: Decimal = Decimal(0)


def usage(ledger: Ledger, from_us: int, to_us: int, customer_id: str | None, by: str) -> list[dict[str, Any]]:
    """One row for each key, sorted: traces, credits, and in USD cost, revenue (credits at their price) and margin."""
    cards = stored_cards(ledger)
    sums: dict[str, _Sum] = {}
    for row in ledger.query("usage_components", from_us=from_us, to_us=to_us, customer_id=customer_id or ""):
        _add(sums.setdefault(KEYS[by](row), _Sum()), row, cards)
    return [_row(key, sums[key]) for key in sorted(sums)]


def _add(total: _Sum, row: Any, cards: Mapping[str, RateCard]) -> None:
    total.traces += 1
    billed_micros = row["billed_micros"] - row["waived_micros"]
    total.billed_micros += billed_micros
    for part in msgspec.json.decode(row["components"]).get("parts", []):
        # Cost is what Langfuse reports; the other components rest on prices of the rate card.
        if part["name"] == "ai":
            total.cost_usd = EXACT.add(total.cost_usd, Decimal(part["cost_usd"]))
    credits = EXACT.divide(Decimal(billed_micros), Decimal(MICROS_PER_CREDIT))
    price = cards[row["card_digest"]].credit_price_usd_at(row["timestamp_us"])
    total.revenue_usd = EXACT.add(total.revenue_usd, EXACT.multiply(credits, price))


def _row(key: str, total: _Sum) -> dict[str, Any]:
    return {
        "key": key,
        "traces": total.traces,
        "credits": format_micros(total.billed_micros),
        "cost_usd": format_usd(total.cost_usd),
        "revenue_usd": format_usd(total.revenue_usd),
        "margin_usd": format_usd(EXACT.subtract(total.revenue_usd, total.cost_usd)),
    }


def write_usage(path: Path, form: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of `usage` as "csv" or "parquet". Raises ConfigError if the file or the form cannot be written."""
    columns = [Column(name, kind) for name, kind in zip(COLUMNS, KINDS, strict=True)]
    with new_file(path) as file:
        write_table(form, file, columns, ([row[name] for name in COLUMNS] for row in rows))
