"""Rate cards: what is read, what is refused and in which words, and the canonical form."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tallymark.core.clock import parse_time
from tallymark.errors import ConfigError
from tallymark.rating.cards import card_text, default_card, parse_card

RULE = """
[[rule]]
from = 2026-01-01T00:00:00Z
credit_price_usd = "0.00004"
compute_usd_per_minute = "0.05"
"""
CARD = f'name = "standard"\n{RULE}'
LATER_RULE = RULE.replace("2026-01-01", "2026-06-01").replace('"0.05"', '"0.06"')
TOKENS = 'ai = "tokens"\n[rule.tokens]\n'


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_card(text)
    return str(refused.value)


def test_a_card_has_the_documented_defaults():
    rule = parse_card(CARD).rules[0]

    assert (rule.margin, rule.ai, rule.storage_credits_per_gb_month, rule.tokens) == (1, "cost", 0, ())


def test_a_rule_holds_from_its_moment_until_the_next_one_begins():
    card = parse_card(LATER_RULE.join([CARD, ""]))
    moments = {"2025-12-31T23:59:59.999999Z": None, "2026-01-01T00:00:00Z": Decimal("0.05")}
    moments |= {"2026-05-31T23:59:59.999999Z": Decimal("0.05"), "2026-06-01T02:00:00+02:00": Decimal("0.06")}

    found = {moment: card.rule_at(parse_time(moment)) for moment in moments}

    assert {moment: rule and rule.compute_usd_per_minute for moment, rule in found.items()} == moments


def test_rules_are_sorted_by_time_whatever_their_order_in_the_file():
    assert parse_card(f'name = "standard"\n{LATER_RULE}{RULE}') == parse_card(f"{CARD}{LATER_RULE}")


def test_beginning_is_before_every_moment():
    assert parse_card(CARD.replace("2026-01-01T00:00:00Z", '"beginning"')).rule_at(0) is not None


def test_the_most_specific_glob_wins_and_star_takes_the_rest():
    rates = {"*": 3, "gpt-4o*": 2, "gpt-4o-mini": 1}
    table = "".join(f'"{glob}" = {{ per = 1, credits = {credits} }}\n' for glob, credits in rates.items())
    rule = parse_card(CARD + TOKENS + table).rules[0]

    found = [rule.token_rate(model) for model in ("gpt-4o-mini", "gpt-4o-2024", "claude", None)]

    assert [rate.credits for rate in found if rate] == [1, 2, 3, 3]


def test_the_canonical_text_is_read_back_as_an_equal_card():
    rates = '"gpt-4o*" = { per = 1000, credits = "100.50" }\n"модель \\"x\\"" = { per = 3, credits = 0 }\n'
    card = parse_card(CARD + TOKENS + rates + LATER_RULE.replace("T00:00:00Z", "T00:00:00.000001+02:00"))

    again = parse_card(card_text(card))

    assert (again, again.digest, card_text(again)) == (card, card.digest, card_text(card))


def test_the_digest_is_the_same_for_the_same_numbers_in_another_spelling():
    assert parse_card(CARD).digest == parse_card(CARD.replace('"0.05"', '"00.0500"')).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.05", "0.06"), ("0.00004", "0.00005"), ("2026-01-01", "2026-01-02"), ("standard", "other")],
)
def test_the_digest_changes_with_every_part_of_the_content(old, new):
    assert parse_card(CARD).digest != parse_card(CARD.replace(old, new)).digest


def test_the_default_card_is_one_rule_from_the_beginning_of_time():
    card = default_card(Decimal("0.00004"), Decimal(1), Decimal("0.05"))

    assert [rule == card.rules[0] for rule in (card.rule_at(0), card.rule_at(-(10**15)))] == [True, True]
    assert parse_card(card_text(card)) == card


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"0.05"', "0.05", ["[[rule]] number 1", "compute_usd_per_minute", "0.05", "binary"]),
        ('"0.05"', '"-1"', ["compute_usd_per_minute", "'-1'", "from 0"]),
        ('"0.05"', '"1e-3"', ["compute_usd_per_minute", "'1e-3'"]),
        ('"0.05"', '"NaN"', ["compute_usd_per_minute", "'NaN'"]),
        ('"0.05"', "true", ["compute_usd_per_minute", "True", "number in quotes"]),
        ('"0.00004"', '"0"', ["credit_price_usd", "above 0"]),
        (
            "compute_usd_per_minute",
            "compute_usd_per_minut",
            ["compute_usd_per_minut", "did you mean 'compute_usd_per_minute'"],
        ),
        ('name = "standard"', 'nam = "standard"', ["'nam'", "did you mean 'name'"]),
        ('name = "standard"', "", ["a rate card has no 'name'"]),
        ('name = "standard"', "name = 5", ["name is 5", "text in quotes"]),
        ("from = 2026-01-01T00:00:00Z\n", "", ["[[rule]] number 1 has no 'from'"]),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", ["from is 2026-01-01 00:00:00", "zone"]),
        ("2026-01-01T00:00:00Z", '"2026-01-01T00:00:00Z"', ["from is '2026", "no quotes"]),
        ("2026-01-01T00:00:00Z", "1969-01-01T00:00:00Z", ["from is 1969", "beginning"]),
        ("[[rule]]", "[rule]", ["[[rule]] table"]),
        ("[[rule]]", "[[rule]", ["not TOML", "line 3"]),
        (RULE, "rule = [1]", ["[[rule]] number 1 must be a table"]),
        (RULE, RULE + 'ai = "costs"', ["ai is 'costs'", "cost, tokens, none"]),
        (RULE, RULE + 'ai = "tokens"', ["[rule.tokens]", "together"]),
        (RULE, RULE + '[rule.tokens]\n"*" = { per = 1, credits = 1 }', ["[rule.tokens]", "together"]),
        (RULE, RULE + TOKENS + '"*" = { per = 0, credits = 1 }', ["[rule.tokens], '*'", "per is 0"]),
        (RULE, RULE + TOKENS + '"*" = { per = 1, credits = 0.5 }', ["[rule.tokens], '*'", "credits is 0.5", "binary"]),
        (RULE, RULE + TOKENS + '"*" = { per = 1, credit = 1 }', ["'credit'", "did you mean 'credits'"]),
        (RULE, RULE + TOKENS + '" gpt" = { per = 1, credits = 1 }', ["' gpt'", "blanks"]),
        (RULE, RULE + RULE, ["two rules begin at 2026-01-01T00:00:00+00:00"]),
    ],
)
def test_a_wrong_card_is_refused_with_table_key_value_and_what_to_do(old, new, words):
    assert old in CARD
    message = refusal(CARD.replace(old, new))

    assert [word for word in words if word not in message] == []
