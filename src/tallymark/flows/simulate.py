"""Simulate: what a rate card would have billed, against what was billed. Reads only the ledger, one trace at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ..config import Config
from ..core.clock import format_time
from ..core.credits import EXACT, MICROS_PER_CREDIT, format_micros, format_usd
from ..ledger import Ledger
from ..ledger.history import Stored, count_stored_traces, stored_traces
from ..rating.cards import RateCard
from .cards import stored_cards
from .progress import Progress
from .rerate import End, Rerated, Rerater

KEYS = ("customer", "day")
COLUMNS = (
    *("key", "traces", "billed_credits", "simulated_credits", "difference_credits", "difference_percent"),
    *("billed_usd", "simulated_usd", "difference_usd", *End, "not_simulated_credits"),
)
NO_CUSTOMER = "(no customer)"
PROGRESS_TRACES = 1000
DETAILS_MAX = 20
_PERCENT = Decimal("0.01")


def simulate(
    config: Config, card: RateCard, ledger: Ledger, from_us: int, to_us: int, by: str, progress: Progress
) -> dict[str, Any]:
    """One row for each customer or day, sorted, and their total; `why` counts the reasons of what was not rated."""
    cards = stored_cards(ledger)
    rerate, traces = Rerater(config, card, cards), count_stored_traces(ledger, from_us, to_us)
    sums, total, why = dict[str, _Sum](), _Sum(), _Why()
    for done, stored in enumerate(stored_traces(ledger, from_us, to_us), 1):
        if (rerated := rerate(stored)) is not None:
            for each in (sums.setdefault(_key(by, stored, rerated), _Sum()), total):
                each.add(stored, rerated, cards, card)
            why.add(rerated)
        if done % PROGRESS_TRACES == 0:
            progress("simulate", done, traces)
    return {
        "card": {"name": card.name, "digest": card.digest},
        "from": format_time(from_us),
        "to": format_time(to_us),
        "by": by,
        "rows": [sums[key].row(key) for key in sorted(sums)],
        "total": total.row("total"),
        "why": why.rows(),
    }


def _key(by: str, stored: Stored, rerated: Rerated) -> str:
    return (rerated.customer_id or NO_CUSTOMER) if by == "customer" else format_time(stored.trace.timestamp_us)[:10]


@dataclass(slots=True)
class _Sum:
    """What traces come to: micro-credits by the price of a credit, as billed and as simulated."""

    ends: Counter[End] = field(default_factory=Counter)
    billed: Counter[Decimal] = field(default_factory=Counter)
    simulated: Counter[Decimal] = field(default_factory=Counter)
    not_simulated_micros: int = 0

    def add(self, stored: Stored, rerated: Rerated, cards: Mapping[str, RateCard], card: RateCard) -> None:
        """Add a trace. What cannot be simulated stands apart, so that both sides are of the same traces."""
        at_us = stored.trace.timestamp_us
        self.ends[rerated.end] += 1
        if rerated.end is End.NOT_SIMULATED:
            self.not_simulated_micros += stored.billed_micros
            return
        if stored.billed_micros:
            self.billed[cards[stored.card_digest or ""].credit_price_usd_at(at_us)] += stored.billed_micros
        if rerated.micros:
            self.simulated[card.credit_price_usd_at(at_us)] += rerated.micros

    def row(self, key: str) -> dict[str, Any]:
        """The sums as text, named as in COLUMNS."""
        billed, simulated = self.billed.total(), self.simulated.total()
        billed_usd, simulated_usd = _worth_usd(self.billed), _worth_usd(self.simulated)
        return {
            "key": key,
            "traces": self.ends.total(),
            "billed_credits": format_micros(billed),
            "simulated_credits": format_micros(simulated),
            "difference_credits": format_micros(simulated - billed),
            "difference_percent": _percent(simulated - billed, billed),
            "billed_usd": format_usd(billed_usd),
            "simulated_usd": format_usd(simulated_usd),
            "difference_usd": format_usd(EXACT.subtract(simulated_usd, billed_usd)),
            **{end.value: self.ends[end] for end in End},
            "not_simulated_credits": format_micros(self.not_simulated_micros),
        }


def _worth_usd(micros_by_price: Mapping[Decimal, int]) -> Decimal:
    total = Decimal(0)
    for price_usd, micros in micros_by_price.items():
        total = EXACT.add(total, EXACT.multiply(price_usd, Decimal(micros)))
    return EXACT.divide(total, Decimal(MICROS_PER_CREDIT))


def _percent(difference_micros: int, billed_micros: int) -> str | None:
    """For people, to two decimals; None where nothing was billed."""
    if not billed_micros:
        return None
    return str(EXACT.divide(Decimal(100 * difference_micros), Decimal(billed_micros)).quantize(_PERCENT))


@dataclass(slots=True)
class _Why:
    """Why traces were not rated: so many different sentences, and one for the rest."""

    traces: Counter[tuple[End, str]] = field(default_factory=Counter)

    def add(self, rerated: Rerated) -> None:
        """Count a trace that has a reason."""
        if rerated.detail:
            reason = (rerated.end, rerated.detail)
            known = reason in self.traces or len(self.traces) < DETAILS_MAX
            self.traces[reason if known else (rerated.end, "for other reasons")] += 1

    def rows(self) -> list[dict[str, Any]]:
        """The reasons, the most frequent first."""
        return [{"end": end, "detail": detail, "traces": traces} for (end, detail), traces in self.traces.most_common()]
