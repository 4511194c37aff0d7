"""Rules: how usage becomes credits from one moment on. Each component of a trace has one function here.

The formulas are DESIGN section 5. Langfuse's latency is in seconds (facts/langfuse-observed.md item 1).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property

from tallymark.core.credits import EXACT
from tallymark.core.types import Component, Unit

AI, COMPUTE, STORAGE = COMPONENTS = ("ai", "compute", "storage")
OWN_KEYS = "customer's own keys"
"""The formula of AI usage that the customer paid for."""

BEGINNING_US = -(2**63)
"""The `from_us` of a rule that holds from the beginning of time."""

ZERO = Decimal(0)
_SECONDS_PER_MINUTE = Decimal(60)
# Below this a number is written with an exponent, so that a formula stays short.
_PLAIN_EXPONENT_MIN = -40


class AiBasis(StrEnum):
    """What AI usage is rated by: the cost that Langfuse reports, the tokens, or not at all."""

    COST = "cost"
    TOKENS = "tokens"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TokenRate:
    """`credits` for every `per` tokens of the models whose name matches `model_glob` ("*": any other)."""

    model_glob: str
    per: int
    credits: Decimal


@dataclass(frozen=True)
class Rule:
    """How usage becomes credits from the moment `from_us` on.

    Amounts are what `fields.parse_amount` takes; `credit_price_usd` is above 0. `tokens` is sorted, the most
    specific glob first. The margin does not touch token and storage rates: those are credits already.
    """

    from_us: int
    credit_price_usd: Decimal
    margin: Decimal
    ai: AiBasis
    compute_usd_per_minute: Decimal
    storage_credits_per_gb_month: Decimal
    tokens: tuple[TokenRate, ...] = ()

    def token_rate(self, model: str | None) -> TokenRate | None:
        """The most specific token rate for a model; a unit without a model is matched by "*" only."""
        return next((rate for rate in self.tokens if fnmatchcase(model or "", rate.model_glob)), None)

    @cached_property
    def credits_text(self) -> str:
        """The end of every formula that turns USD into credits."""
        return f"{plain(self.margin)} ÷ {plain(self.credit_price_usd)} USD"

    @cached_property
    def compute_text(self) -> str:
        """What a formula does with seconds."""
        return f"÷ 60 × {plain(self.compute_usd_per_minute)} USD × {self.credits_text}"

    @cached_property
    def price_times_60(self) -> Decimal:
        """Sixty times the credit price: one division for seconds and price keeps exact what can be."""
        return EXACT.multiply(_SECONDS_PER_MINUTE, self.credit_price_usd)


def ai_by_cost(cost_usd: Decimal, rule: Rule) -> Component:
    """AI usage by its cost: cost × margin ÷ credit price."""
    credits = EXACT.divide(EXACT.multiply(cost_usd, rule.margin), rule.credit_price_usd)
    return Component(AI, credits, cost_usd, f"{plain(cost_usd)} USD × {rule.credits_text}")


def ai_by_tokens(units: tuple[Unit, ...], cost_usd: Decimal, rule: Rule) -> Component:
    """AI usage by its tokens: tokens × credits ÷ per, one term for each token rate.

    `cost_usd` is what Langfuse reports, kept for the comparison. Raises ValueError if a model has no token rate.
    """
    tokens_by_rate: Counter[TokenRate] = Counter()
    for unit in units:
        for model, tokens in unit.models or ((unit.model, unit.tokens),):
            if tokens:
                tokens_by_rate[_rate_for(model, rule)] += tokens
    credits = ZERO
    for token_rate, tokens in tokens_by_rate.items():
        credits = EXACT.add(credits, EXACT.divide(EXACT.multiply(token_rate.credits, tokens), token_rate.per))
    terms = (f"{tokens} tokens × {plain(rate.credits)} ÷ {rate.per}" for rate, tokens in tokens_by_rate.items())
    return Component(AI, credits, cost_usd, " + ".join(terms))


def ai_of_the_customer() -> Component:
    """AI usage that the customer paid for with keys of their own: no credits, but visible in `explain`."""
    return Component(AI, ZERO, ZERO, OWN_KEYS)


def compute_time(duration_s: Decimal, rule: Rule) -> Component:
    """Compute time: seconds ÷ 60 × USD per minute × margin ÷ credit price."""
    usd_times_60 = EXACT.multiply(duration_s, rule.compute_usd_per_minute)
    credits = EXACT.divide(EXACT.multiply(usd_times_60, rule.margin), rule.price_times_60)
    cost_usd = EXACT.divide(usd_times_60, _SECONDS_PER_MINUTE)
    return Component(COMPUTE, credits, cost_usd, f"{plain(duration_s)} s {rule.compute_text}")


def storage(gb_month: Decimal, rule: Rule) -> Component:
    """Storage: GB months × credits per GB month. It has no cost of its own."""
    credits = EXACT.multiply(gb_month, rule.storage_credits_per_gb_month)
    return Component(STORAGE, credits, ZERO, f"{plain(gb_month)} GB-month × {plain(rule.storage_credits_per_gb_month)}")


def plain(number: Decimal) -> str:
    """A number as people write it: 0.00004, not 4E-5; at most 60 digits."""
    text = str(number)
    if len(text) <= 60 and text.isascii() and "E" not in text:
        return text
    rounded = EXACT.plus(number)
    return str(rounded) if rounded and rounded.adjusted() < _PLAIN_EXPONENT_MIN else format(rounded, "f")


def _rate_for(model: str | None, rule: Rule) -> TokenRate:
    token_rate = rule.token_rate(model)
    if token_rate is None:
        raise ValueError(f"the rate card has no token rate for model {(model or '')[:80]!r}; add one, or one for '*'")
    return token_rate
