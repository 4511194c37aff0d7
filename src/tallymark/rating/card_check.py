"""What can be said of a rate card by reading it: when its rules hold, what looks wrong, and where two cards differ.

Overlaps and gaps between rules cannot be written: a rule holds until the next one begins, and two of one moment are
refused when the card is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import combinations, pairwise

from tallymark.core.clock import format_time
from tallymark.core.credits import EXACT
from tallymark.core.windows import STRIPE_AGE_MAX_US

from .cards import RateCard
from .rules import BEGINNING_US, Rule, TokenRate, plain

OK, WARNING = "ok", "warning"
JUMP_MAX = 100
"""A price that becomes this many times higher or lower from one rule to the next is more often a slip than meant."""

_FAR = f"more than ×{JUMP_MAX} away"

# A character that no model's name holds stands for whatever a wildcard may match.
_ANY = "\uffff"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was checked of a card: its status is "ok" or "warning"."""

    check: str
    status: str
    detail: str


def spans(card: RateCard) -> list[tuple[Rule, int | None]]:
    """Each rule with the moment at which the next one begins; None: it holds from then on."""
    ends = [rule.from_us for rule in card.rules[1:]]
    return list(zip(card.rules, [*ends, None], strict=True))


def moment_text(moment_us: int) -> str:
    """A moment in ISO 8601, or "beginning"."""
    return "beginning" if moment_us == BEGINNING_US else format_time(moment_us)


def first_difference_us(one: RateCard, other: RateCard, from_us: int, to_us: int) -> int | None:
    """The first moment of a range, both ends included, of which two cards do not say the same, if there is one."""
    starts = {rule.from_us for card in (one, other) for rule in card.rules if from_us < rule.from_us <= to_us}
    return next((at for at in sorted({from_us, *starts}) if _terms_at(one, at) != _terms_at(other, at)), None)


def remarks(card: RateCard, now_us: int) -> list[Remark]:
    """What the card alone shows, one check after the other; a check that finds nothing says so."""
    return [
        *_checked("rules", _without_rule(card, now_us), "each rule holds until the next begins: no gap, no overlap"),
        *_checked("effect", _without_effect(card), "every rule changes something, and every token rate can apply"),
        *_checked("values", _suspicious(card), f"no price lies {_FAR} from what it is compared with"),
    ]


def _checked(check: str, found: Iterable[str], otherwise: str) -> list[Remark]:
    return [Remark(check, WARNING, detail) for detail in found] or [Remark(check, OK, otherwise)]


def _terms_at(card: RateCard, moment_us: int) -> Rule | None:
    rule = card.rule_at(moment_us)
    return replace(rule, from_us=BEGINNING_US) if rule else None


# ---- rules


def _without_rule(card: RateCard, now_us: int) -> Iterator[str]:
    """Usage that Stripe would still take and that lies before the first rule."""
    first_us = card.rules[0].from_us
    if first_us > now_us:
        yield f"no rule holds yet: usage before {format_time(first_us)} would be held as unrated"
    elif first_us > now_us - STRIPE_AGE_MAX_US:
        yield (
            f"the first rule begins at {format_time(first_us)}: usage before that would be held as unrated;"
            ' let a rule begin earlier, or at "beginning"'
        )


def _without_effect(card: RateCard) -> Iterator[str]:
    for earlier, later in pairwise(card.rules):
        if replace(later, from_us=earlier.from_us) == earlier:
            yield f"the rule from {moment_text(later.from_us)} says the same as the one before it"
    for rule in card.rules:
        for hidden, by in _hidden(rule.tokens):
            yield (
                f"in the rule from {moment_text(rule.from_us)} the token rate for {hidden.model_glob!r} never applies:"
                f" {by.model_glob!r} comes first and matches the same models"
            )


def _hidden(rates: tuple[TokenRate, ...]) -> Iterator[tuple[TokenRate, TokenRate]]:
    """Token rates that an earlier one leaves no model for, each with that one."""
    for earlier, later in combinations(rates, 2):
        if all(fnmatchcase(name, earlier.model_glob) for name in _names(later.model_glob)):
            yield later, earlier


def _names(model_glob: str) -> list[str]:
    """Names that a glob matches and that stand for all others."""
    return [model_glob.replace("?", _ANY).replace("*", any_text) for any_text in ("", _ANY * 2)]


# ---- values


def _suspicious(card: RateCard) -> Iterator[str]:
    for earlier, later in pairwise(card.rules):
        yield from (f"from {moment_text(later.from_us)} on {jump}" for jump in _jumps(earlier, later))
    for rule in card.rules:
        yield from (f"in the rule from {moment_text(rule.from_us)} {slip}" for slip in _slips(rule.tokens))


def _jumps(earlier: Rule, later: Rule) -> Iterator[str]:
    for name, amount in _AMOUNTS.items():
        if _far_apart(amount(earlier), amount(later)):
            yield f"{name} is {plain(amount(later))} instead of {plain(amount(earlier))}, {_FAR}"
    before = {rate.model_glob: rate for rate in earlier.tokens}
    for rate in later.tokens:
        if (old := before.get(rate.model_glob)) and _far_apart(_per_token(old), _per_token(rate)):
            yield f"tokens of {rate.model_glob!r} are {_rate_text(rate)} instead of {_rate_text(old)}, {_FAR}"


_AMOUNTS: dict[str, Callable[[Rule], Decimal]] = {
    "credit_price_usd": lambda rule: rule.credit_price_usd,
    "margin": lambda rule: rule.margin,
    "compute_usd_per_minute": lambda rule: rule.compute_usd_per_minute,
    "storage_credits_per_gb_month": lambda rule: rule.storage_credits_per_gb_month,
}


def _slips(rates: tuple[TokenRate, ...]) -> Iterator[str]:
    """Token rates of one rule that lie far apart and do not count by the same number of tokens."""
    for one, other in combinations(rates, 2):
        if one.per != other.per and _far_apart(_per_token(one), _per_token(other)):
            yield (
                f"tokens of {one.model_glob!r} are {_rate_text(one)} and of {other.model_glob!r} {_rate_text(other)},"
                f" {_FAR}: are both meant by that many tokens?"
            )


def _per_token(rate: TokenRate) -> Decimal:
    return EXACT.divide(rate.credits, Decimal(rate.per))


def _rate_text(rate: TokenRate) -> str:
    return f"{plain(rate.credits)} credits per {rate.per}"


def _far_apart(one: Decimal, other: Decimal) -> bool:
    """Whether one amount is more than so many times the other; 0 is no amount to compare with."""
    low, high = sorted((one, other))
    return bool(low) and high > EXACT.multiply(low, Decimal(JUMP_MAX))
