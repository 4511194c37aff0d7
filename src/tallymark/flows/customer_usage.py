"""The usage of one customer, for an application that shows it to them. Reads only the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec

from ..config import Config
from ..core.clock import format_time
from ..core.credits import EXACT, format_micros, format_usd, round_to_micros
from ..ledger import Ledger
from ..ledger.database import Database
from .ranges import check_range, month_named
from .stations import source_key
from .subjects import NO_LIMIT
from .sync import purpose_of
from .usage import models_text

OTHER = "other"


class ComponentUsage(msgspec.Struct):
    """What a component ("ai", "compute", "storage") came to. `cost_usd` is what it rests on, before any margin."""

    component: str
    credits: str
    cost_usd: str


class ModelUsage(msgspec.Struct):
    """What the traces of a model came to; of several models, if they used several."""

    model: str
    traces: int
    credits: str


class UsageSummary(msgspec.Struct):
    """A customer's usage from `from` on, before `to`; credits exact, as text with six decimals.

    `credits` = the sum of `components`, less what was `waived`; = the sum of `models`. `read_up_to` is how far Langfuse
    was read, null if it never was; `updated_at` when a trace of this usage was last read, null if there is none.
    """

    customer: str
    from_: str = msgspec.field(name="from")
    to: str
    credits: str
    waived: str
    traces: int
    components: list[ComponentUsage]
    models: list[ModelUsage]
    read_up_to: str | None
    updated_at: str | None


class UsageEvent(msgspec.Struct):
    """One billed trace: when it was, its name, and what it came to, by component. `credits` is less what was waived."""

    trace_id: str
    project_id: str
    time: str
    name: str | None
    model: str
    credits: str
    components: dict[str, str]


@dataclass(slots=True)
class _Sums:
    traces: int = 0
    billed_micros: int = 0
    waived_micros: int = 0
    updated_at_us: int | None = None
    credits: dict[str, int] = field(default_factory=dict)
    costs_usd: dict[str, Decimal] = field(default_factory=dict)
    models: dict[str, list[int]] = field(default_factory=dict)


def range_or_period(
    ledger: Ledger, customer_id: str, from_us: int | None, to_us: int | None, now_us: int
) -> tuple[int, int]:
    """A range that was named, or its named end and the present; without a beginning, the period to date.

    That is the customer's billing period at the range's end, as it was last read of Stripe, else the month in UTC.
    """
    check_range(from_us, to_us)
    until_us = to_us if to_us is not None else now_us
    if from_us is not None:
        return from_us, until_us
    row = next(iter(ledger.query("period_at", customer_id=customer_id, at_us=until_us)), None)
    return (row["start_us"] if row else month_named(format_time(until_us)[:7], now_us)[0]), until_us


def usage_summary(ledger: Ledger, config: Config, customer_id: str, from_us: int, to_us: int) -> UsageSummary:
    """What a customer used in a range of time, by component and by model."""
    sums = _Sums()
    with ledger.one_moment() as db:
        for row, model in _traces(db, customer_id, from_us, to_us, NO_LIMIT):
            _add(sums, row, model)
        read_up_to_us = _read_up_to_us(db, config)
    return UsageSummary(
        customer_id,
        format_time(from_us),
        format_time(to_us),
        format_micros(sums.billed_micros - sums.waived_micros),
        format_micros(sums.waived_micros),
        sums.traces,
        [
            ComponentUsage(name, format_micros(micros), format_usd(sums.costs_usd.get(name, Decimal(0))))
            for name, micros in sorted(sums.credits.items())
        ],
        [ModelUsage(model, traces, format_micros(micros)) for model, (traces, micros) in sorted(sums.models.items())],
        format_time(read_up_to_us) if read_up_to_us is not None else None,
        format_time(sums.updated_at_us) if sums.updated_at_us is not None else None,
    )


def usage_events(ledger: Ledger, customer_id: str, from_us: int, to_us: int, limit: int) -> list[UsageEvent]:
    """The billed traces of a customer in a range of time, the newest first."""
    with ledger.one_moment() as db:
        return [_event(row, model) for row, model in _traces(db, customer_id, from_us, to_us, limit)]


def _traces(db: Database, customer_id: str, from_us: int, to_us: int, limit: int) -> Iterator[tuple[Any, str]]:
    """Each trace once, with its models as one key."""
    wanted = {"customer_id": customer_id, "from_us": from_us, "to_us": to_us, "limit": limit}
    rows = db.stream("customer_traces", **wanted)
    for _, group in groupby(rows, key=lambda row: (row["project_id"], row["trace_id"])):
        of_trace = list(group)
        yield of_trace[0], models_text(row["model"] for row in of_trace)


def _add(sums: _Sums, row: Any, model: str) -> None:
    parts = msgspec.json.decode(row["components"]).get("parts", [])
    sums.traces += 1
    sums.billed_micros += row["billed_micros"]
    sums.waived_micros += row["waived_micros"]
    sums.updated_at_us = max(sums.updated_at_us or 0, row["read_at_us"])
    for name, micros in _micros_of(parts, row["billed_micros"]).items():
        sums.credits[name] = sums.credits.get(name, 0) + micros
    for part in parts:
        sums.costs_usd[part["name"]] = EXACT.add(
            sums.costs_usd.get(part["name"], Decimal(0)), Decimal(part["cost_usd"])
        )
    of_model = sums.models.setdefault(model, [0, 0])
    of_model[0] += 1
    of_model[1] += row["billed_micros"] - row["waived_micros"]


def _micros_of(parts: list[dict[str, str]], billed_micros: int) -> dict[str, int]:
    """What each component came to. A trace is rounded once; what that moves is told with its largest component."""
    micros = {part["name"]: round_to_micros(Decimal(part["credits"])) for part in parts} or {OTHER: 0}
    largest = max(micros, key=lambda name: (micros[name], name))
    micros[largest] += billed_micros - sum(micros.values())
    return micros


def _event(row: Any, model: str) -> UsageEvent:
    components: Mapping[str, int] = _micros_of(
        msgspec.json.decode(row["components"]).get("parts", []), row["billed_micros"]
    )
    return UsageEvent(
        row["trace_id"],
        row["project_id"],
        format_time(row["timestamp_us"]),
        row["name"],
        model,
        format_micros(row["billed_micros"] - row["waived_micros"]),
        {name: format_micros(micros) for name, micros in sorted(components.items())},
    )


def _read_up_to_us(db: Database, config: Config) -> int | None:
    """How far every project of the settings was read; None if one of them never was."""
    reached = []
    for project in config.projects:
        key = source_key(project.base_url, project.public_key or "")
        row = db.row("coverage_of", source_key=key, purpose=purpose_of(config.use_tag_filtering))
        if row is None:
            return None
        reached.append(row["to_us"])
    return min(reached, default=None)
