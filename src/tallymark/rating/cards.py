"""Rate cards: dated, immutable rules, read from TOML and written back in one canonical form.

A card with every key:

    name = "standard"

    [[rule]]
    from = 2026-01-01T00:00:00Z           # with a zone; the first rule may say "beginning"
    credit_price_usd = "0.00004"
    compute_usd_per_minute = "0.05"
    margin = "1"                          # default "1"
    ai = "tokens"                         # "cost" (default), "tokens" or "none"
    storage_credits_per_gb_month = "0"    # default "0"

    [rule.tokens]                         # with ai = "tokens" only; the most specific glob wins, "*" is any other model
    "gpt-4o*" = { per = 1000, credits = "100" }

A rule holds until the next one begins. Changing a rate means adding a rule; nothing is ever rated by a missing one.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar

from tallymark.core.clock import from_datetime, to_datetime
from tallymark.core.credits import EXACT
from tallymark.errors import ConfigError

from .fields import amount_of, read_toml, refuse_unknown, table_of, text_of
from .rules import BEGINNING_US, AiBasis, Rule, TokenRate, plain

DIGEST_CHARS = 16
_BEGINNING = "beginning"
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class RateCard:
    """Dated rules, sorted by `from_us`, no two alike. Two cards have the same digest if they say the same."""

    name: str
    rules: tuple[Rule, ...]
    digest: str = field(init=False)
    _starts_us: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(_content(self.name, self.rules)))
        object.__setattr__(self, "_starts_us", tuple(rule.from_us for rule in self.rules))

    def rule_at(self, timestamp_us: int) -> Rule | None:
        """The rule that holds at a moment (microseconds since 1970), or None before the first."""
        position = bisect_right(self._starts_us, timestamp_us)
        return self.rules[position - 1] if position else None

    def credit_price_usd_at(self, timestamp_us: int) -> Decimal:
        """What a credit costs at a moment; 0 before the first rule, where nothing is billed."""
        rule = self.rule_at(timestamp_us)
        return rule.credit_price_usd if rule else Decimal(0)


def default_card(credit_price_usd: Decimal, margin: Decimal, compute_usd_per_minute: Decimal) -> RateCard:
    """The card of one rule from the beginning of time: AI by cost, no storage (DESIGN section 5)."""
    rule = Rule(BEGINNING_US, credit_price_usd, margin, AiBasis.COST, compute_usd_per_minute, Decimal(0))
    return RateCard("default", (rule,))


def parse_card(text: str) -> RateCard:
    """Read a card from TOML. Raises ConfigError that names the table, the key, the value and what to do."""
    content = read_toml(text)
    refuse_unknown("a rate card", content, ("name", "rule"))
    name = _required(content, "name", "a rate card", text_of)
    tables = content.get("rule")
    if not isinstance(tables, list) or not tables:
        raise ConfigError("a rate card needs at least one [[rule]] table; add one with from and credit_price_usd")
    rules = [_parse_rule(table, f"[[rule]] number {number}") for number, table in enumerate(tables, 1)]
    return RateCard(name, _sorted_rules(rules))


def card_text(card: RateCard) -> str:
    """The card in its canonical form: TOML that `parse_card` reads back as an equal card."""
    parts = [f"name = {_quoted(card.name)}\n", *(_rule_text(rule) for rule in card.rules)]
    return "\n".join(parts)


def digest_of(content: object) -> str:
    """The first 16 hex digits of SHA-256 over the canonical JSON of some content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGEST_CHARS]


# ---- reading


def _parse_rule(value: object, where: str) -> Rule:
    table = table_of(value, where)
    refuse_unknown(where, table, _RULE_KEYS)
    rule = Rule(
        from_us=_required(table, "from", where, _moment_of),
        credit_price_usd=_required(table, "credit_price_usd", where, _positive_of),
        margin=_optional(table, "margin", where, amount_of, Decimal(1)),
        ai=_optional(table, "ai", where, _basis_of, AiBasis.COST),
        compute_usd_per_minute=_required(table, "compute_usd_per_minute", where, amount_of),
        storage_credits_per_gb_month=_optional(table, "storage_credits_per_gb_month", where, amount_of, Decimal(0)),
        tokens=_token_rates(table.get("tokens", {}), f"{where}, [rule.tokens]"),
    )
    _check_tokens(rule, where)
    return rule


_RULE_KEYS = (
    "from",
    "credit_price_usd",
    "margin",
    "ai",
    "compute_usd_per_minute",
    "storage_credits_per_gb_month",
    "tokens",
)


def _token_rates(value: object, where: str) -> tuple[TokenRate, ...]:
    table = table_of(value, where)
    rates = [
        _token_rate(glob, table_of(rate, f"{where}, {glob!r}"), f"{where}, {glob!r}") for glob, rate in table.items()
    ]
    return tuple(sorted(rates, key=lambda rate: (-len(rate.model_glob.strip("*")), rate.model_glob)))


def _token_rate(model_glob: str, table: dict[str, Any], where: str) -> TokenRate:
    refuse_unknown(where, table, ("per", "credits"))
    glob = _checked(model_glob, "the model", where, _glob_of)
    return TokenRate(glob, _required(table, "per", where, _count_of), _required(table, "credits", where, amount_of))


def _check_tokens(rule: Rule, where: str) -> None:
    if (rule.ai is AiBasis.TOKENS) != bool(rule.tokens):
        raise ConfigError(f'{where}: ai = "tokens" and a [rule.tokens] table go together; add what is missing')


def _sorted_rules(rules: list[Rule]) -> tuple[Rule, ...]:
    rules = sorted(rules, key=lambda rule: rule.from_us)
    for earlier, later in pairwise(rules):
        if earlier.from_us == later.from_us:
            raise ConfigError(f"two rules begin at {_from_text(later)}; give each [[rule]] a from of its own")
    return tuple(rules)


def _required(table: dict[str, Any], key: str, where: str, read: Callable[[object], _Value]) -> _Value:
    if key not in table:
        raise ConfigError(f"{where} has no {key!r}; add it")
    return _checked(table[key], key, where, read)


def _optional(table: dict[str, Any], key: str, where: str, read: Callable[[object], _Value], default: _Value) -> _Value:
    return _checked(table[key], key, where, read) if key in table else default


def _checked(value: object, key: str, where: str, read: Callable[[object], _Value]) -> _Value:
    try:
        return read(value)
    except ValueError as problem:
        shown = repr(value) if isinstance(value, str) else str(value)
        raise ConfigError(f"{where}: {key} is {shown[:80]}, but it {problem}") from None


def _moment_of(value: object) -> int:
    if value == _BEGINNING:
        return BEGINNING_US
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError('must be a time with a zone and no quotes, such as 2026-01-01T00:00:00Z, or "beginning"')
    if not _EARLIEST <= value < _LATEST:
        raise ValueError('must lie between 1970 and 2199; write "beginning" for all times')
    return from_datetime(value)


def _positive_of(value: object) -> Decimal:
    amount = amount_of(value)
    if not amount:
        raise ValueError("must be above 0, because credits are divided by it")
    return amount


def _basis_of(value: object) -> AiBasis:
    if value not in list(AiBasis):
        raise ValueError(f"must be one of {', '.join(AiBasis)}")
    return AiBasis(str(value))


def _glob_of(value: object) -> str:
    if text_of(value) != value:
        raise ValueError("must have no blanks around it")
    return value


def _count_of(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 10**12:
        raise ValueError("must be an integer from 1 to 1000000000000")
    return value


# ---- writing


def _content(name: str, rules: tuple[Rule, ...]) -> object:
    """What the digest is made of: numbers in one spelling, times in UTC."""
    return {"name": name, "rules": [dict(rule_items(rule)) | {"tokens": token_items(rule)} for rule in rules]}


def rule_items(rule: Rule) -> Iterator[tuple[str, str]]:
    """What a rule says but for its token rates: keys and values as a card has them, numbers in one spelling."""
    yield "from", _from_text(rule)
    yield "credit_price_usd", _number(rule.credit_price_usd)
    yield "margin", _number(rule.margin)
    yield "ai", rule.ai.value
    yield "compute_usd_per_minute", _number(rule.compute_usd_per_minute)
    yield "storage_credits_per_gb_month", _number(rule.storage_credits_per_gb_month)


def token_items(rule: Rule) -> list[list[str]]:
    """The token rates of a rule, the most specific first: model, per, credits."""
    return [[rate.model_glob, str(rate.per), _number(rate.credits)] for rate in rule.tokens]


def _rule_text(rule: Rule) -> str:
    lines = ["[[rule]]", *(f"{key} = {_toml_value(key, text)}" for key, text in rule_items(rule))]
    if rule.tokens:
        lines += ["", "[rule.tokens]"]
    lines += [f'{_quoted(glob)} = {{ per = {per}, credits = "{credits}" }}' for glob, per, credits in token_items(rule)]
    return "\n".join(lines) + "\n"


def _toml_value(key: str, text: str) -> str:
    return text if key == "from" and text != _BEGINNING else _quoted(text)


def _from_text(rule: Rule) -> str:
    return _BEGINNING if rule.from_us == BEGINNING_US else to_datetime(rule.from_us).isoformat()


def _number(number: Decimal) -> str:
    return plain(number.normalize(EXACT)) if number else "0"


def _quoted(text: str) -> str:
    # Printable text in JSON quotes is a TOML basic string too.
    return json.dumps(text, ensure_ascii=False)
