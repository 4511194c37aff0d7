"""What an observation costs, by the server's rules, and a price table of a few models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from functools import cached_property, lru_cache

# ClickHouse keeps costs as Decimal64(12) within these bounds (facts/langfuse.md section 12).
_STEP_USD = Decimal("0.000000000001")
_COST_USD_MAX = Decimal("999999.999999")
_NOTHING = Decimal(0)


@dataclass(frozen=True)
class Price:
    """USD per unit of usage, by usage key."""

    model_id: str
    usd_per_unit: Mapping[str, Decimal]
    tier_name: str = "Standard"

    @cached_property
    def tier_id(self) -> str:
        """The id of the only pricing tier."""
        return f"{self.model_id}_tier_default"


# The id and the prices of gpt-4o as recorded (golden 01); the others only so that a demo has more than one model.
PRICES = {
    "gpt-4o": Price("b9854a5c92dc496b997d99d20", {"input": Decimal("0.0000025"), "output": Decimal("0.00001")}),
    "gpt-4o-mini": Price("sandbox-gpt-4o-mini", {"input": Decimal("0.00000015"), "output": Decimal("0.0000006")}),
    "claude-sonnet-4": Price("sandbox-claude-sonnet-4", {"input": Decimal("0.000003"), "output": Decimal("0.000015")}),
}


@lru_cache(maxsize=1_024)
def price_of(model: str | None) -> Price | None:
    """The price of a model; None if the server does not know it."""
    return PRICES.get(model.lower().removeprefix("openai/")) if model else None


def cost_details(
    given_usd: Mapping[str, float] | None, model: str | None, usage: Mapping[str, int] | None
) -> dict[str, Decimal]:
    """USD by usage key. A given cost wins over the price table; without a clear total there is no key "total".

    Source: facts/langfuse-observed.md item 4 and facts/langfuse.md section 12.
    """
    given = {key: _stored(Decimal(repr(usd))) for key, usd in (given_usd or {}).items() if usd >= 0}
    return _with_given_total(given) if given else _calculated(price_of(model), usage or {})


def total_cost(given_usd: Mapping[str, float] | None, model: str | None, usage: Mapping[str, int] | None) -> Decimal:
    """USD of one observation; 0 where the server knows no total."""
    return cost_details(given_usd, model, usage).get("total", _NOTHING)


def _with_given_total(given: dict[str, Decimal]) -> dict[str, Decimal]:
    if "total" in given or not given.keys() <= {"input", "output"}:
        return given
    return {**given, "total": sum(given.values(), _NOTHING)}


def _calculated(price: Price | None, usage: Mapping[str, int]) -> dict[str, Decimal]:
    if price is None:
        return {}
    rates = price.usd_per_unit
    costs = {key: _stored(rates[key] * units) for key, units in usage.items() if key in rates}
    return {**costs, "total": sum(costs.values(), _NOTHING)} if costs else {}


def _stored(usd: Decimal) -> Decimal:
    return usd.quantize(_STEP_USD, ROUND_DOWN) if usd < _COST_USD_MAX else _COST_USD_MAX
