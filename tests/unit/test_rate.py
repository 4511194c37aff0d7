"""Rating: the formulas of DESIGN section 5, and the one reason a trace is not rated for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tallymark.core.credits import ENTRY_MICROS_MAX
from tallymark.core.types import Rated, Reason, Trace, Unit, Unrated
from tallymark.rating.cards import default_card, parse_card
from tallymark.rating.rate import rate, total_micros

CARD = default_card(Decimal("0.00004"), Decimal(1), Decimal("0.05"))
RULE = '[[rule]]\nfrom = 2026-01-01T00:00:00Z\ncredit_price_usd = "0.00004"\ncompute_usd_per_minute = "0.05"\n'
TOKEN_RATE = '[rule.tokens]\n"gpt-4o*" = { per = 1000, credits = "100" }\n'
TOKEN_CARD = parse_card(f'name = "tokens"\n{RULE}ai = "tokens"\nmargin = "3"\n{TOKEN_RATE}')
NOW_US = 1_780_000_000_000_000


def unit(cost=None, seconds=None, tokens=None, **more) -> Unit:
    return Unit(more.pop("unit_id", ""), decimal(cost), decimal(seconds), tokens, **more)


def decimal(number) -> Decimal | None:
    return None if number is None else Decimal(number)


def trace(*units: Unit, unpriced: bool = False, timestamp_us: int = NOW_US, **attributes: str) -> Trace:
    return Trace("project", "trace", timestamp_us, units, attributes=attributes, unpriced=unpriced)


def rated(given: Trace, card=CARD, owner="platform") -> Rated:
    outcome = rate(given, card, default_ownership=owner)
    assert isinstance(outcome, Rated), outcome
    return outcome


def reason(given: Trace, card=CARD, owner="platform") -> Reason:
    return unrated(given, card, owner).reason


def unrated(given: Trace, card=CARD, owner="platform") -> Unrated:
    outcome = rate(given, card, default_ownership=owner)
    assert isinstance(outcome, Unrated), outcome
    return outcome


def amounts(outcome: Rated) -> dict[str, tuple[Decimal, Decimal]]:
    return {component.name: (component.credits, component.cost_usd) for component in outcome.components}


def test_credits_are_cost_and_compute_time_by_the_credit_price():
    """0.0375 USD of AI is 937.5 credits; 12 s at 0.05 USD a minute are 0.01 USD, 250 credits."""
    outcome = rated(trace(unit("0.0375", "12")))

    assert amounts(outcome) == {"ai": (Decimal("937.5"), Decimal("0.0375")), "compute": (Decimal(250), Decimal("0.01"))}
    assert total_micros(outcome) == 1_187_500_000
    assert (outcome.margin, outcome.card_digest) == (1, CARD.digest)


def test_the_formula_is_exact_and_readable():
    formulas = [component.formula for component in rated(trace(unit("0.0375", "12"))).components]

    assert formulas == ["0.0375 USD × 1 ÷ 0.00004 USD", "12 s ÷ 60 × 0.05 USD × 1 ÷ 0.00004 USD"]


def test_latency_is_seconds_not_milliseconds():
    assert total_micros(rated(trace(unit(None, "60")))) == 1_250_000_000


def test_margin_multiplies_ai_and_compute():
    card = default_card(Decimal("0.00004"), Decimal("1.25"), Decimal("0.05"))

    assert total_micros(rated(trace(unit("0.0375", "12")), card)) == 1_484_375_000


def test_a_margin_of_zero_is_rated_with_no_credits_and_the_cost_kept():
    card = default_card(Decimal("0.00004"), Decimal(0), Decimal(0))

    assert amounts(rated(trace(unit("0.5", "3")), card)) == {"ai": (0, Decimal("0.5"))}


def test_units_are_added_exactly_and_rounded_once():
    """A thousand times 0.0000004 credits is 0.0004 credits, though each alone rounds to nothing."""
    tiny = [unit("0.000000000016", unit_id=str(number)) for number in range(1000)]

    assert total_micros(rated(trace(*tiny))) == 400


def test_platform_ownership_in_any_case_beats_the_default():
    given = trace(unit("0.0375"), aiCredentialsOwnership=" Platform ")

    assert amounts(rated(given, owner="user"))["ai"] == (Decimal("937.5"), Decimal("0.0375"))


@pytest.mark.parametrize("said", ["user", "USER", ""])
def test_the_customers_own_keys_are_worth_nothing_and_stay_visible(said):
    """A trace that says nothing has the default ownership, here user."""
    outcome = rated(trace(unit("0.0375", "12"), aiCredentialsOwnership=said), owner="user")

    assert amounts(outcome) == {"ai": (0, 0), "compute": (250, Decimal("0.01"))}
    assert outcome.components[0].formula == "customer's own keys"


def test_tokens_without_a_cost_are_no_problem_with_the_customers_own_keys():
    given = trace(unit("0", "12", tokens=500), unpriced=True, aiCredentialsOwnership="user")

    assert amounts(rated(given)) == {"ai": (0, 0), "compute": (250, Decimal("0.01"))}


def test_storage_is_gb_months_by_its_credits():
    card = parse_card(f'name = "s"\n{RULE}storage_credits_per_gb_month = "40"\n')

    assert amounts(rated(trace(unit(), gbMonth="2.5"), card)) == {"storage": (100, 0)}


def test_gb_months_without_a_storage_rate_are_not_read():
    assert amounts(rated(trace(unit("0.00004"), gbMonth="plenty"))) == {"ai": (1, Decimal("0.00004"))}


def test_tokens_are_rated_by_model_without_margin():
    units = (unit("0.5", tokens=1500, model="gpt-4o-mini"), unit(None, tokens=500, model="gpt-4o"), unit(seconds="12"))
    outcome = rated(trace(*units), TOKEN_CARD)

    assert amounts(outcome) == {"ai": (200, Decimal("0.5")), "compute": (750, Decimal("0.01"))}
    assert outcome.components[0].formula == "2000 tokens × 100 ÷ 1000"


def test_a_card_without_ai_rates_compute_alone():
    card = parse_card(f'name = "n"\n{RULE}ai = "none"\n')

    assert amounts(rated(trace(unit("7", "12", tokens=5)), card)) == {"compute": (250, Decimal("0.01"))}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (trace(unit("1", problem="cost is text")), "cost is text"),
        (trace(unit("-0.01")), "the cost is -0.01"),
        (trace(unit("NaN")), "the cost is NaN"),
        (trace(unit("sNaN")), "the cost is sNaN"),
        (trace(unit("1"), unit("Infinity")), "the cost is Infinity"),
        (trace(unit("1", "-1")), "the duration is -1"),
        (trace(unit("1", "Infinity")), "the duration is Infinity"),
        (trace(unit("1", tokens=-1)), "the token count is -1"),
        (trace(unit("1e300")), "too large"),
        (trace(unit("40000.01")), "more than one trace may be worth, 999999999.000000"),
        (trace(unit("1"), aiCredentialsOwnership="both"), "aiCredentialsOwnership is 'both'"),
    ],
)
def test_wrong_numbers_and_words_are_unrated_and_named(given, words):
    assert unrated(given).reason == Reason.UNRATED
    assert words in unrated(given).detail


def test_the_largest_amount_of_an_entry_is_still_rated():
    assert total_micros(rated(trace(unit("39999.99996")))) == ENTRY_MICROS_MAX


@pytest.mark.parametrize("gb_month", ["x", "-1", "NaN", "1e999999999999999999999"])
def test_wrong_gb_months_are_unrated(gb_month):
    card = parse_card(f'name = "s"\n{RULE}storage_credits_per_gb_month = "40"\n')

    assert reason(trace(unit("1"), gbMonth=gb_month), card) == Reason.UNRATED


def test_no_rule_for_the_moment_is_unrated():
    assert "first rule begins later" in unrated(trace(unit("1"), timestamp_us=0), TOKEN_CARD).detail


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (trace(unit("1")), "does not tell them"),
        (trace(unit("0", "3"), unpriced=True), "does not tell them"),
        (trace(unit("1", tokens=5, model="claude")), "no token rate for model 'claude'"),
        (trace(unit("1", tokens=5)), "no token rate for model ''"),
    ],
)
def test_a_token_card_needs_tokens_and_a_rate_for_their_model(given, words):
    assert unrated(given, TOKEN_CARD).reason == Reason.UNRATED
    assert words in unrated(given, TOKEN_CARD).detail


def test_a_token_card_needs_no_cost_and_no_tokens_of_units_that_only_took_time():
    given = trace(unit(seconds="12"), unit("0", tokens=10, model="gpt-4o"), unpriced=True)

    assert amounts(rated(given, TOKEN_CARD)) == {"ai": (1, 0), "compute": (750, Decimal("0.01"))}


def test_a_token_card_rates_time_alone_where_no_tokens_were_used():
    assert amounts(rated(trace(unit("0", "12")), TOKEN_CARD)) == {"compute": (750, Decimal("0.01"))}


@pytest.mark.parametrize("given", [trace(), trace(unit()), trace(unit("0", "0", 0)), trace(unit("-0", None))])
def test_nothing_used_is_no_billable_usage(given):
    assert reason(given) == Reason.NO_BILLABLE_USAGE


@pytest.mark.parametrize(
    "given",
    [
        trace(unit("0", "5"), unpriced=True),
        trace(unit("0", "5", tokens=10)),
        trace(unit(None, tokens=10)),
        trace(unit("0.5", tokens=10), unit("0", tokens=1)),
    ],
)
def test_tokens_without_a_cost_hold_the_whole_trace_as_unpriced(given):
    """Neither its time nor its priced units are billed meanwhile."""
    assert reason(given) == Reason.UNPRICED


@pytest.mark.parametrize(
    ("given", "first"),
    [
        (trace(unit("-1"), unit("0", tokens=5)), Reason.UNRATED),
        (trace(unit("0", "10000000000", tokens=5)), Reason.UNRATED),
        (trace(unit(), aiCredentialsOwnership="both"), Reason.UNRATED),
        (trace(unit("0", "0"), unpriced=True), Reason.UNPRICED),
    ],
)
def test_the_first_reason_in_the_order_of_the_design_is_given(given, first):
    assert reason(given) == first
