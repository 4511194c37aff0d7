"""The usage of one customer, for an application that shows it to them. Reads only the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..config import Config
from ..core.clock import format_time
from ..core.credits import format_micros, format_usd
from ..ledger import Ledger
from ..ledger.database import Database
from .paging import Listing, listing, read_cursor
from .ranges import check_range, month_named
from .stations import source_key
from .sync import purpose_of
from .usage_sums import After, Component, UsageSum, billed_traces, micros_of, parts_of, usage_sums


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
    was read, null if it never was; `updated_at` when something of it was last new or changed, null if there is none.
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


class DayUsage(msgspec.Struct):
    """What the traces of a UTC day came to."""

    day: str
    traces: int
    credits: str


class CustomerUsage(UsageSummary, kw_only=True):
    """A usage summary, and the same by day; `credits` = the sum of `days` too."""

    days: list[DayUsage]


class UsageEvent(msgspec.Struct):
    """One billed trace: when it was, its name, and what it came to, by component. `credits` is less what was waived."""

    trace_id: str
    project_id: str
    time: str
    name: str | None
    model: str
    credits: str
    components: dict[str, str]


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
    sums, read_up_to_us = _read(ledger, config, customer_id, from_us, to_us)
    return UsageSummary(**_summary(sums, read_up_to_us, customer_id, from_us, to_us))


def customer_usage(ledger: Ledger, config: Config, customer_id: str, from_us: int, to_us: int) -> CustomerUsage:
    """The same, and by day."""
    sums, read_up_to_us = _read(ledger, config, customer_id, from_us, to_us)
    return CustomerUsage(**_summary(sums, read_up_to_us, customer_id, from_us, to_us), days=_days(sums))


def _read(
    ledger: Ledger, config: Config, customer_id: str, from_us: int, to_us: int
) -> tuple[list[UsageSum], int | None]:
    with ledger.one_moment() as db:
        return list(usage_sums(ledger, db, from_us, to_us, customer_id)), _read_up_to_us(db, config)


def _summary(
    sums: Sequence[UsageSum], read_up_to_us: int | None, customer_id: str, from_us: int, to_us: int
) -> dict[str, Any]:
    updated_at_us = max((each.read_at_us for each in sums), default=None)
    return {
        "customer": customer_id,
        "from_": format_time(from_us),
        "to": format_time(to_us),
        "credits": format_micros(sum(each.charged_micros for each in sums)),
        "waived": format_micros(sum(each.waived_micros for each in sums)),
        "traces": sum(each.traces for each in sums),
        "components": _components(sums),
        "models": _models(sums),
        "read_up_to": format_time(read_up_to_us) if read_up_to_us is not None else None,
        "updated_at": format_time(updated_at_us) if updated_at_us is not None else None,
    }


def _days(sums: Iterable[UsageSum]) -> list[DayUsage]:
    traces, micros = Counter[int](), Counter[int]()
    for each in sums:
        traces[each.day_us] += each.traces
        micros[each.day_us] += each.charged_micros
    return [
        DayUsage(format_time(day_us)[:10], traces[day_us], format_micros(micros[day_us])) for day_us in sorted(traces)
    ]


def _components(sums: Iterable[UsageSum]) -> list[ComponentUsage]:
    total: dict[str, Component] = {}
    for each in sums:
        for name, part in each.components.items():
            total.setdefault(name, Component()).add(part.micros, part.cost_usd)
    return [
        ComponentUsage(name, format_micros(part.micros), format_usd(part.cost_usd))
        for name, part in sorted(total.items())
    ]


def _models(sums: Iterable[UsageSum]) -> list[ModelUsage]:
    traces, micros = Counter[str](), Counter[str]()
    for each in sums:
        traces[each.model] += each.traces
        micros[each.model] += each.charged_micros
    return [ModelUsage(model, traces[model], format_micros(micros[model])) for model in sorted(traces)]


def usage_events(ledger: Ledger, customer_id: str, from_us: int, to_us: int, limit: int) -> list[UsageEvent]:
    """The billed traces of a customer in a range of time, the newest first."""
    with ledger.one_moment() as db:
        return [_event(row, model) for row, model in billed_traces(db, customer_id, from_us, to_us, limit)]


def usage_event_page(
    ledger: Ledger, customer_id: str, from_us: int, to_us: int, limit: int, cursor: str | None = None
) -> Listing[UsageEvent]:
    """The same in pages. Raises ConfigError for a cursor that is none."""
    after: After | None = None
    if cursor is not None:
        after = read_cursor(cursor, int, str, str)
        if after[0] < from_us:
            return Listing([], None)
        after = (min(after[0], to_us), *after[1:])
        to_us = min(to_us, after[0] + 1)
    with ledger.one_moment() as db:
        found = list(billed_traces(db, customer_id, from_us, to_us, limit + 1, after))
    return listing(found, limit, lambda each: _event(*each), lambda each: _place_of(each[0]))


def _place_of(row: Any) -> tuple[str | int, ...]:
    return row["timestamp_us"], row["project_id"], row["trace_id"]


def _event(row: Any, model: str) -> UsageEvent:
    components = micros_of(parts_of(row), row["billed_micros"])
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
