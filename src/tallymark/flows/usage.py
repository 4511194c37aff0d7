"""Usage: credits, cost, revenue and margin by customer, day, model or flow. Reads only the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ..core.clock import format_time
from ..core.columns import Column, Kind
from ..core.credits import EXACT, MICROS_PER_CREDIT, format_micros, format_usd
from ..core.decisions import TraceKey
from ..ledger import Ledger
from ..ledger.database import Database
from ..rating.cards import RateCard
from ..tables import new_file, write_table
from .cards import stored_cards

NOT_KNOWN, NO_NAME = "(not known)", "(no name)"
Models = Mapping[TraceKey, Sequence[str]]
# The flow is the trace's name: a tag, which `billable(flow=...)` writes, is not kept in the ledger.
KEYS: dict[str, Callable[[Any, Models], str]] = {
    "customer": lambda row, _models: str(row["customer_id"]),
    "day": lambda row, _models: format_time(row["timestamp_us"])[:10],
    "model": lambda row, models: models_text(models.get((row["project_id"], row["trace_id"]), ())),
    "flow": lambda row, _models: row["name"] or NO_NAME,
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
    customer_id = customer_id or ""
    with ledger.one_moment() as db:
        models = models_of(db, from_us, to_us, customer_id) if by == "model" else {}
        for row in db.stream("usage_components", from_us=from_us, to_us=to_us, customer_id=customer_id):
            _add(sums.setdefault(KEYS[by](row, models), _Sum()), row, cards)
    return [_row(key, sums[key]) for key in sorted(sums)]


def models_of(db: Database, from_us: int, to_us: int, customer_id: str) -> dict[TraceKey, list[str]]:
    """The models that each billed trace of a range used, in order; only observations tell them."""
    found: dict[TraceKey, list[str]] = {}
    for row in db.stream("usage_models", from_us=from_us, to_us=to_us, customer_id=customer_id):
        found.setdefault((row["project_id"], row["trace_id"]), []).append(row["model"])
    return found


def models_text(models: Iterable[str | None]) -> str:
    """The models of a trace as one key. A trace of several is not divided: its time belongs to none of them."""
    return ", ".join(dict.fromkeys(model for model in models if model)) or NOT_KNOWN


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
