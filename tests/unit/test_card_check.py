"""What a rate card shows by itself: when its rules hold, what looks wrong, and where two cards differ."""

import pytest

from builders import NOW_US
from tallymark.core.clock import DAY_US, SECOND_US, format_time, parse_time
from tallymark.rating.card_check import WARNING, first_difference_us, remarks, spans
from tallymark.rating.cards import parse_card

BEGINNING, JUNE, OCTOBER = '"beginning"', "2026-06-01T00:00:00Z", "2026-10-01T00:00:00Z"


def rule(start=BEGINNING, tokens=None, **keys):
    """The TOML of a rule; `tokens` are (per, credits) by model."""
    said = {"credit_price_usd": "0.00004", "compute_usd_per_minute": "0.05", **keys}
    if tokens:
        said["ai"] = "tokens"
    lines = ["[[rule]]", f"from = {start}", *(f'{key} = "{text}"' for key, text in said.items())]
    if tokens:
        lines += ["[rule.tokens]", *(f'"{m}" = {{ per = {per}, credits = "{c}" }}' for m, (per, c) in tokens.items())]
    return "\n".join(lines) + "\n"


def card(*rules):
    """A card of these rules."""
    return parse_card('name = "test"\n' + "".join(rules))


def warnings(*rules):
    """What is to be looked at, by check."""
    return [(remark.check, remark.detail) for remark in remarks(card(*rules), NOW_US) if remark.status == WARNING]


def days_ago(days, *, and_us=0):
    """A moment as a card has it."""
    return format_time(NOW_US - days * DAY_US - and_us)


# ---- from when to when


def test_a_rule_ends_where_the_next_one_begins():
    """In the order of time, whatever the order in the file; the last has no end."""
    found = spans(card(rule(OCTOBER), rule(), rule(JUNE)))

    assert [to_us for _, to_us in found] == [parse_time(JUNE), parse_time(OCTOBER), None]
    assert [each.from_us for each, _ in found[1:]] == [parse_time(JUNE), parse_time(OCTOBER)]


def test_a_sound_card_gives_no_warning_and_says_what_was_checked():
    """Every check has a line, so that a short answer is no doubt."""
    found = remarks(card(rule(), rule(JUNE, margin="1.2")), NOW_US)

    assert [(remark.check, remark.status) for remark in found] == [("rules", "ok"), ("effect", "ok"), ("values", "ok")]


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (days_ago(-1), "no rule holds yet"),
        (days_ago(1), "the first rule begins at"),
        (days_ago(35, and_us=-SECOND_US), "the first rule begins at"),
        (days_ago(35), None),
        (BEGINNING, None),
    ],
)
def test_usage_before_the_first_rule_matters_while_stripe_would_take_it(start, word):
    """What is older than 35 days is billed by no card."""
    found = warnings(rule(start))

    assert [check for check, _ in found] == (["rules"] if word else [])
    assert all(word in detail and "held as unrated" in detail for _, detail in found)


# ---- without effect


def test_a_rule_that_repeats_the_one_before_it_is_named():
    """Numbers in another spelling are the same numbers."""
    ((check, detail),) = warnings(rule(), rule(JUNE, credit_price_usd="0.000040"), rule(OCTOBER, margin="2"))

    assert (check, "2026-06-01" in detail, "same" in detail) == ("effect", True, True)


@pytest.mark.parametrize(
    ("globs", "hidden"),
    [
        (["gpt-4[oO]*", "gpt-4o"], "gpt-4o"),
        (["gpt-4?*", "gpt-4o"], "gpt-4o"),
        (["gpt*4o*", "gpt-4o*"], "gpt-4o*"),
        (["**", "*"], "**"),
        (["gpt-4o*", "gpt*", "*"], None),
        (["gpt-4o", "gpt-4*", "*mini"], None),
        (["*-mini", "gpt-*"], None),
        (["gpt-4??", "gpt-4*"], None),
        (["gpt-[34]", "gpt-5"], None),
    ],
)
def test_a_token_rate_that_no_model_is_left_for_is_named(globs, hidden):
    """The longest glob comes first, which is not always the narrower one."""
    found = warnings(rule(tokens=dict.fromkeys(globs, (1000, "100"))))

    assert [check for check, _ in found] == (["effect"] if hidden else [])
    assert all(f"{hidden!r} never applies" in detail for _, detail in found)


# ---- values


@pytest.mark.parametrize(
    "key", ["credit_price_usd", "margin", "compute_usd_per_minute", "storage_credits_per_gb_month"]
)
@pytest.mark.parametrize(
    ("before", "after", "is_odd"),
    [("1", "100", False), ("1", "100.1", True), ("100.1", "1", True), ("1", "0.01", False), ("3", "3", False)],
)
def test_a_price_that_jumps_is_named(key, before, after, is_odd):
    """More than a hundredfold, up or down; exactly so much may be meant."""
    found = warnings(rule(**{key: before}), rule(JUNE, **{key: after}, **({"margin": "9"} if key != "margin" else {})))

    assert [check for check, _ in found if check == "values"] == (["values"] if is_odd else [])
    assert all(word in found[0][1] for word in (key, before, after, "2026-06-01") if is_odd)


@pytest.mark.parametrize(("before", "after"), [("0", "0.05"), ("0.05", "0")])
def test_beginning_or_ending_to_bill_a_component_is_no_jump(before, after):
    """There is no ratio to 0."""
    assert warnings(rule(compute_usd_per_minute=before), rule(JUNE, compute_usd_per_minute=after)) == []


def test_a_token_rate_that_jumps_is_named_whatever_it_counts_by():
    """The same credits for a million tokens as for a thousand before."""
    ((check, detail),) = warnings(
        rule(tokens={"gpt*": (1000, "100"), "*": (1000, "40")}),
        rule(JUNE, tokens={"gpt*": (1_000_000, "100"), "*": (1_000_000, "40000")}),
    )[:1]

    assert check == "values"
    assert all(word in detail for word in ("'gpt*'", "100 credits per 1000", "100 credits per 1000000", "2026-06-01"))


@pytest.mark.parametrize(
    ("rates", "is_odd"),
    [
        ({"a*": (1000, "100"), "b*": (1_000_000, "100")}, True),
        ({"a*": (1000, "100"), "b*": (1_000_000, "2000")}, False),
        ({"a*": (1000, "100"), "b*": (1000, "0.1")}, False),
        ({"a*": (1000, "100"), "b*": (1_000_000, "0")}, False),
    ],
)
def test_a_rate_per_million_among_rates_per_thousand_is_named(rates, is_odd):
    """Only where the numbers of tokens differ: models may well cost a thousand times more than others."""
    assert [check for check, _ in warnings(rule(tokens=rates))] == (["values"] if is_odd else [])


# ---- two cards


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([rule()], [rule()], None),
        ([rule(), rule(JUNE, margin="2")], [rule(), rule(JUNE, margin="2.0")], None),
        ([rule(), rule(JUNE, margin="2")], [rule(), rule(JUNE, margin="3")], JUNE),
        ([rule(), rule(OCTOBER, margin="2")], [rule()], OCTOBER),
        ([rule()], [rule(), rule(JUNE), rule(OCTOBER, margin="2")], OCTOBER),
        ([rule(JUNE)], [rule()], "2026-01-01T00:00:00Z"),
        ([rule(margin="2"), rule("2025-12-31T00:00:00Z")], [rule()], None),
        ([rule(), rule("2026-11-30T00:00:00.000001Z", margin="2")], [rule()], None),
        ([rule(), rule("2026-11-30T00:00:00Z", margin="2")], [rule()], "2026-11-30T00:00:00Z"),
    ],
)
def test_the_first_difference_of_two_cards_in_a_range(one, other, expected):
    """What counts is what holds at a moment of the range, both ends included, not how the rules are cut."""
    range_us = parse_time("2026-01-01T00:00:00Z"), parse_time("2026-11-30T00:00:00Z")

    found = first_difference_us(card(*one), card(*other), *range_us)

    assert found == (parse_time(expected) if expected else None)
    assert found == first_difference_us(card(*other), card(*one), *range_us)
