"""Sums of billed traces for whole days, which are made anew where a trace has changed since (docs/adr/0036)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..failpoints import Step
from .database import Database
from .ledger import Ledger

DAYS_AT_ONCE = 200
# So many traces are added up in some tenths of a second; nobody else writes meanwhile.
TRACES_AT_ONCE = 5_000


class PutUsageSum(NamedTuple):
    """What traces of a customer and a day come to; amounts of USD and of components as exact text."""

    day_us: int
    customer_id: str
    flow: str
    model: str
    traces: int
    billed_micros: int
    waived_micros: int
    first_us: int
    last_us: int
    read_at_us: int
    cost_usd: str
    revenue_usd: str
    components: str


AddUp = Callable[[Database, str, int], list[PutUsageSum]]
"""What the traces of a customer come to on a day, by its first microsecond."""


def store_some_sums(ledger: Ledger, add_up: AddUp) -> bool:
    """Add up some of the customers and days that are stale, in one transaction; whether there were any."""
    with ledger.transaction(Step.SUM_USAGE) as db:
        stale, traces = db.rows("next_stale_usage", limit=DAYS_AT_ONCE), 0
        for row in stale:
            day = {"day_us": row["day_us"], "customer_id": row["customer_id"]}
            sums = add_up(db, row["customer_id"], row["day_us"])
            db.write("delete_usage_sums", **day)
            db.write_many("put_usage_sum", sums)
            db.write("delete_usage_stale", **day)
            traces += sum(each.traces for each in sums)
            if traces >= TRACES_AT_ONCE:
                break
    return bool(stale)
