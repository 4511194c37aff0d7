"""The period that a page shows: a name such as 30d, 2026-11 or billing, or two dates."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.clock import DAY_US, format_time, parse_time
from ..errors import ConfigError
from ..flows.customer_usage import range_or_period
from ..flows.ranges import check_range, month_named
from ..ledger import Ledger

DEFAULT = "30d"
BILLING = "billing"
DAYS = {"7d": "7 days", "30d": "30 days", "90d": "90 days"}


@dataclass(frozen=True, slots=True)
class Period:
    """From `from_us` on, before `to_us`. `name` is empty for one of two dates."""

    name: str
    from_us: int
    to_us: int

    @property
    def from_date(self) -> str:
        """The first day, for a form; empty for a period with a name."""
        return "" if self.name else format_time(self.from_us)[:10]

    @property
    def to_date(self) -> str:
        """The day that it ends before, for a form; empty for a period with a name."""
        return "" if self.name else format_time(self.to_us)[:10]

    @property
    def query(self) -> str:
        """How a link names it."""
        return f"period={self.name}" if self.name else f"from={self.from_date}&to={self.to_date}"

    def choices(self, customer_id: str | None = None) -> dict[str, str]:
        """Every name with its label; the billing period only of one customer."""
        found = {} if self.name else {"": "two dates"}
        if customer_id:
            found[BILLING] = "this billing period"
        found |= {name: f"last {label}" for name, label in DAYS.items()}
        found["last"] = "last month"
        return found if self.name in found else {self.name: self.name, **found}


def period_of(
    ledger: Ledger, now_us: int, name: str | None, from_: str | None, to: str | None, customer_id: str = ""
) -> Period:
    """The period that a page was asked for; two dates win over a name, and the default is 30 days.

    Raises ConfigError for what is no period.
    """
    if from_ or to:
        return _between(from_, to, now_us)
    name = name or DEFAULT
    if name in DAYS:
        # Whole days, today among them: sums of days are stored.
        return Period(name, now_us - now_us % DAY_US - (int(name[:-1]) - 1) * DAY_US, now_us)
    if name == BILLING and customer_id:
        return Period(name, *range_or_period(ledger, customer_id, None, None, now_us))
    return Period(name, *month_named(name, now_us))


def _between(from_: str | None, to: str | None, now_us: int) -> Period:
    try:
        to_us = parse_time(f"{to}T00:00:00Z") if to else now_us
        from_us = parse_time(f"{from_}T00:00:00Z") if from_ else to_us - 30 * DAY_US
    except ValueError:
        raise ConfigError("a period begins and ends on a day; write it as 2026-11-01.") from None
    check_range(from_us, to_us)
    return Period("", from_us, to_us)
