"""Usage: credits, cost, revenue and margin by customer, day, model or flow. Reads only the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ..core.clock import DAY_US, format_time
from ..core.columns import Column, Kind
from ..core.credits import EXACT, format_micros, format_usd
from ..ledger import Ledger
from ..tables import new_file, write_table
from .usage_sums import UsageSum, usage_sums

NO_NAME = "(no name)"
# The flow is the trace's name: a tag, which `billable(flow=...)` writes, is not kept in the ledger.
KEYS: dict[str, Callable[[UsageSum], str]] = {
    "customer": lambda each: each.customer_id,
    "day": lambda each: format_time(each.day_us)[:10],
    "model": lambda each: each.model,
    "flow": lambda each: each.flow or NO_NAME,
}
KINDS = (Kind.TEXT, Kind.INTEGER, Kind.AMOUNT, Kind.AMOUNT, Kind.AMOUNT, Kind.AMOUNT)


class UsageRow(msgspec.Struct):
    """What the billed traces of a key came to: credits, what Langfuse says they cost, and what the credits cost."""

    key: str
    traces: int
    credits: str
    cost_usd: str
    revenue_usd: str
    margin_usd: str


COLUMNS = UsageRow.__struct_fields__


@dataclass(slots=True)
class UsageTotal:
    """Sums of usage: micro-credits less what was waived, and exact USD."""

    traces: int = 0
    micros: int = 0
    cost_usd: Decimal = Decimal(0)
    revenue_usd: Decimal = Decimal(0)

    @property
    def margin_usd(self) -> Decimal:
        """Revenue less cost."""
        return EXACT.subtract(self.revenue_usd, self.cost_usd)

    def add(self, other: UsageSum | UsageTotal) -> None:
        """Add more."""
        self.traces += other.traces
        self.micros += other.micros if isinstance(other, UsageTotal) else other.charged_micros
        self.cost_usd = EXACT.add(self.cost_usd, other.cost_usd)
        self.revenue_usd = EXACT.add(self.revenue_usd, other.revenue_usd)

    def row(self, key: str) -> UsageRow:
        """The sums as text."""
        money = (format_usd(each) for each in (self.cost_usd, self.revenue_usd, self.margin_usd))
        return UsageRow(key, self.traces, format_micros(self.micros), *money)


def usage(ledger: Ledger, from_us: int, to_us: int, customer_id: str | None, by: str) -> list[UsageRow]:
    """One row for each key, sorted: traces, credits, and in USD cost, revenue (credits at their price) and margin."""
    totals = usage_totals(ledger, from_us, to_us, customer_id or "", by)
    return [totals[key].row(key) for key in sorted(totals)]


def usage_totals(ledger: Ledger, from_us: int, to_us: int, customer_id: str, by: str) -> dict[str, UsageTotal]:
    """The same as numbers, by key."""
    totals: dict[str, UsageTotal] = {}
    with ledger.one_moment() as db:
        for each in usage_sums(ledger, db, from_us, to_us, customer_id):
            totals.setdefault(KEYS[by](each), UsageTotal()).add(each)
    return totals


def usage_by_day(ledger: Ledger, from_us: int, to_us: int, customer_id: str = "") -> list[UsageRow]:
    """A row for each UTC day with usage, of one customer or all, the earliest first."""
    return usage(ledger, from_us, to_us, customer_id, "day")


def on_every_day(rows: Sequence[UsageRow], from_us: int, to_us: int) -> list[UsageRow]:
    """Rows of days with those between them that have no usage, from the first one on, so that a chart has no gaps."""
    if not rows:
        return []
    found = {row.key: row for row in rows}
    first_us = from_us - from_us % DAY_US
    names = (format_time(at_us)[:10] for at_us in range(first_us, to_us, DAY_US))
    return [found.get(name) or UsageTotal().row(name) for name in names if name >= rows[0].key]


def write_usage(path: Path, form: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of `usage` as "csv" or "parquet". Raises ConfigError if the file or the form cannot be written."""
    with new_file(path) as file:
        put_usage(file, form, rows)


def put_usage(file: BinaryIO, form: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """The same into an open file."""
    columns = [Column(name, kind) for name, kind in zip(COLUMNS, KINDS, strict=True)]
    write_table(form, file, columns, ([row[name] for name in COLUMNS] for row in rows))
