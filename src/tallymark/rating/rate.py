"""Rating: what a trace is worth under the rate card of its moment, or why that cannot be said.

Nothing here raises for a bad trace, and no part of a trace is billed while another part is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from tallymark.core.credits import ENTRY_MICROS_MAX, EXACT, MICROS_PER_CREDIT, format_micros, round_to_micros
from tallymark.core.types import Component, Rated, Reason, Trace, Unit, Unrated

from .cards import RateCard
from .rules import (
    ZERO,
    AiBasis,
    Rule,
    ai_by_cost,
    ai_by_tokens,
    ai_of_the_customer,
    compute_time,
    storage,
)

OWNERSHIP_ATTRIBUTE = "aiCredentialsOwnership"
GB_MONTH_ATTRIBUTE = "gbMonth"
PLATFORM, USER = OWNERS = ("platform", "user")
# No single number of a trace may be larger; this keeps every product finite.
NUMBER_MAX = Decimal(10**15)
_CREDITS_MAX = Decimal(ENTRY_MICROS_MAX // MICROS_PER_CREDIT)


class _RefusedError(Exception):
    """Leaves the checks below for `rate`, which turns it into a value."""

    def __init__(self, reason: Reason, detail: str, *, lacks_tokens: bool = False) -> None:
        self.unrated = Unrated(reason, detail, lacks_tokens)


@dataclass(frozen=True, slots=True)
class _Usage:
    """The sums over a trace's units: exact USD, seconds, tokens as far as known, and GB months."""

    cost_usd: Decimal
    duration_s: Decimal
    tokens: int
    gb_month: Decimal


def rate(trace: Trace, card: RateCard, *, default_ownership: str) -> Rated | Unrated:
    """Rate a trace: its components, or the first reason that applies (DESIGN section 5).

    `default_ownership` is "platform" or "user", for a trace that does not say whose AI credentials it used. AI usage
    of the customer's own keys is a component of 0 credits. Other components rest on something or are left out.
    """
    try:
        return _rated(trace, card, default_ownership)
    except _RefusedError as refusal:
        return refusal.unrated


def total_micros(rated: Rated) -> int:
    """The credits of all components together in micro-credits: added exactly, rounded once."""
    return round_to_micros(rated.credits)


def _rated(trace: Trace, card: RateCard, default_ownership: str) -> Rated:
    for unit in trace.units:
        _check_unit(unit)
    rule = _rule_for(trace, card)
    owner = _owner_of(trace, default_ownership)
    usage = _usage_of(trace, rule)
    components = _components(trace, usage, rule, owner)
    credits = _checked_sum(components)
    _check_used(trace, usage)
    if owner == PLATFORM and rule.ai is AiBasis.COST:
        _check_priced(trace)
    return Rated(components, credits, rule.margin, card.digest)


# ---- what makes a trace unrated


def _check_unit(unit: Unit) -> None:
    if unit.problem:
        raise _RefusedError(Reason.UNRATED, unit.problem)
    if unit.cost_usd is not None:
        _check_number("cost", unit.cost_usd)
    if unit.duration_s is not None:
        _check_number("duration", unit.duration_s)
    if unit.tokens is not None and not 0 <= unit.tokens <= NUMBER_MAX:
        _check_number("token count", Decimal(unit.tokens))


def _check_number(name: str, number: Decimal) -> None:
    if not number.is_finite() or number < 0:
        raise _RefusedError(Reason.UNRATED, f"the {name} is {number:.6g}, which is negative or not a number")
    if number > NUMBER_MAX:
        raise _RefusedError(Reason.UNRATED, f"the {name} is {number:.6g}, which is too large to be true")


def _rule_for(trace: Trace, card: RateCard) -> Rule:
    rule = card.rule_at(trace.timestamp_us)
    if rule is None:
        detail = f"rate card {card.name!r} has no rule for the time of this trace: its first rule begins later"
        raise _RefusedError(Reason.UNRATED, detail)
    return rule


def _owner_of(trace: Trace, default_ownership: str) -> str:
    said = trace.attributes.get(OWNERSHIP_ATTRIBUTE, "").strip()
    owner = said.lower() or default_ownership
    if owner not in OWNERS:
        raise _RefusedError(
            Reason.UNRATED, f"{OWNERSHIP_ATTRIBUTE} is {said[:80]!r}, but only platform or user are known"
        )
    return owner


def _gb_month_of(trace: Trace, rule: Rule) -> Decimal:
    text = trace.attributes.get(GB_MONTH_ATTRIBUTE, "").strip()
    if not text or not rule.storage_credits_per_gb_month:
        return ZERO
    try:
        gb_month = Decimal(text)
    except InvalidOperation:
        raise _RefusedError(Reason.UNRATED, f"{GB_MONTH_ATTRIBUTE} is {text[:80]!r}, which is not a number") from None
    _check_number(GB_MONTH_ATTRIBUTE, gb_month)
    return gb_month


def _check_tokens_known(trace: Trace, usage: _Usage) -> None:
    uncounted = any(unit.tokens is None and unit.cost_usd for unit in trace.units)
    if uncounted or (trace.unpriced and not usage.tokens):
        detail = "the rate card rates by tokens, but this source does not tell them; use the observations source"
        raise _RefusedError(Reason.UNRATED, detail, lacks_tokens=True)


def _checked_sum(components: tuple[Component, ...]) -> Decimal:
    credits = ZERO
    for component in components:
        credits = EXACT.add(credits, component.credits)
    if credits > _CREDITS_MAX and round_to_micros(credits) > ENTRY_MICROS_MAX:
        amount, most = format_micros(round_to_micros(credits)), format_micros(ENTRY_MICROS_MAX)
        raise _RefusedError(Reason.UNRATED, f"{amount} credits are more than one trace may be worth, {most}")
    return credits


# ---- what makes a trace free, or unpriced


def _check_used(trace: Trace, usage: _Usage) -> None:
    if not (usage.cost_usd or usage.duration_s or usage.tokens or usage.gb_month or trace.unpriced):
        raise _RefusedError(Reason.NO_BILLABLE_USAGE, "no cost, no duration and no tokens")


def _check_priced(trace: Trace) -> None:
    if trace.unpriced or any(unit.tokens and not unit.cost_usd for unit in trace.units):
        raise _RefusedError(
            Reason.UNPRICED, "tokens were used, but Langfuse knows no cost for them: give the model a price there"
        )


# ---- amounts


def _usage_of(trace: Trace, rule: Rule) -> _Usage:
    cost_usd, duration_s, tokens = ZERO, ZERO, 0
    for unit in trace.units:
        if unit.cost_usd:
            cost_usd = EXACT.add(cost_usd, unit.cost_usd)
        if unit.duration_s:
            duration_s = EXACT.add(duration_s, unit.duration_s)
        tokens += unit.tokens or 0
    return _Usage(cost_usd, duration_s, tokens, _gb_month_of(trace, rule))


def _components(trace: Trace, usage: _Usage, rule: Rule, owner: str) -> tuple[Component, ...]:
    components = _ai_components(trace, usage, rule, owner)
    if usage.duration_s and rule.compute_usd_per_minute:
        components.append(compute_time(usage.duration_s, rule))
    if usage.gb_month:
        components.append(storage(usage.gb_month, rule))
    return tuple(components)


def _ai_components(trace: Trace, usage: _Usage, rule: Rule, owner: str) -> list[Component]:
    if rule.ai is AiBasis.NONE:
        return []
    if owner == USER:
        return [ai_of_the_customer()] if usage.cost_usd or usage.tokens or trace.unpriced else []
    if rule.ai is AiBasis.TOKENS:
        return _token_components(trace, usage, rule)
    return [ai_by_cost(usage.cost_usd, rule)] if usage.cost_usd else []


def _token_components(trace: Trace, usage: _Usage, rule: Rule) -> list[Component]:
    _check_tokens_known(trace, usage)
    try:
        return [ai_by_tokens(trace.units, usage.cost_usd, rule)] if usage.tokens else []
    except ValueError as problem:
        raise _RefusedError(Reason.UNRATED, str(problem)) from None
