"""What holds for every trace and every card, searched for counter-examples by hypothesis."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from tallymark.core.credits import ENTRY_MICROS_MAX
from tallymark.core.types import Customer, Rated, Trace, Unit, Unrated
from tallymark.rating.cards import RateCard, card_text, parse_card
from tallymark.rating.customers import CustomerPolicy, NoCustomer, resolve
from tallymark.rating.rate import rate, total_micros
from tallymark.rating.rules import BEGINNING_US, AiBasis, Rule, TokenRate

AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=12)
PRICES = st.decimals(min_value="0.000000000001", max_value=1000, places=12)
LARGE_PRICES = st.decimals(min_value="0.01", max_value=1000, places=4)
GLOBS = st.sampled_from(["*", "gpt-4o*", "gpt-4o", 'a"b\\c', "модель", "a=b#c"])
MOMENTS_US = st.integers(0, 7 * 10**15)
WORDS = st.sampled_from(
    ["", "user", "platform", "PLATFORM", "both", "1", "2.5", "-1", "NaN", "sNaN", "1e999999", "x" * 99]
)


def token_rates() -> st.SearchStrategy[tuple[TokenRate, ...]]:
    rates = st.builds(TokenRate, GLOBS, st.integers(1, 10**12), AMOUNTS)
    listed = st.lists(rates, unique_by=lambda rate: rate.model_glob, min_size=1, max_size=4)
    return listed.map(
        lambda rates: tuple(sorted(rates, key=lambda rate: (-len(rate.model_glob.strip("*")), rate.model_glob)))
    )


@st.composite
def rules(draw) -> Rule:
    basis = draw(st.sampled_from(AiBasis))
    tokens = draw(token_rates()) if basis is AiBasis.TOKENS else ()
    return Rule(
        draw(MOMENTS_US | st.just(BEGINNING_US)),
        draw(PRICES),
        draw(AMOUNTS),
        basis,
        draw(AMOUNTS),
        draw(AMOUNTS),
        tokens,
    )


@st.composite
def cards(draw) -> RateCard:
    dated = draw(st.lists(rules(), unique_by=lambda rule: rule.from_us, min_size=1, max_size=4))
    name = draw(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20))
    return RateCard(name, tuple(sorted(dated, key=lambda rule: rule.from_us)))


ANY_NUMBER = st.none() | st.decimals() | st.decimals(min_value=0, max_value=10, places=6)
ANY_UNIT = st.builds(
    Unit,
    unit_id=st.text(max_size=3),
    cost_usd=ANY_NUMBER,
    duration_s=ANY_NUMBER,
    tokens=st.none() | st.integers(),
    model=st.none() | st.sampled_from(["gpt-4o", "claude"]) | st.text(max_size=5),
    problem=st.none() | st.text(max_size=5),
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["aiCredentialsOwnership", "gbMonth", "customerId", "stripeCustomerId"]), WORDS
)
ANY_TRACE = st.builds(
    Trace,
    project_id=st.just("project"),
    trace_id=st.text(max_size=5),
    timestamp_us=st.integers(),
    units=st.lists(ANY_UNIT, max_size=4).map(tuple),
    user_id=st.none() | st.text(max_size=5),
    attributes=ATTRIBUTES,
    unpriced=st.booleans(),
)
PRICED_UNITS = st.lists(
    st.builds(
        Unit,
        unit_id=st.just(""),
        cost_usd=st.decimals(min_value="0.000000000001", max_value=1, places=12),
        duration_s=st.decimals(min_value=0, max_value=100, places=3),
        tokens=st.none() | st.integers(0, 1000),
    ),
    min_size=1,
    max_size=20,
).map(tuple)
COST_RULES = st.builds(
    Rule, st.just(0), LARGE_PRICES, LARGE_PRICES, st.just(AiBasis.COST), LARGE_PRICES, st.just(Decimal(0))
)


def priced_trace(units: tuple[Unit, ...], **attributes: str) -> Trace:
    return Trace("project", "trace", 1, units, attributes=attributes)


def outcome_of(trace: Trace, rule: Rule) -> Rated:
    outcome = rate(trace, RateCard("card", (rule,)), default_ownership="platform")
    assert isinstance(outcome, Rated), outcome
    return outcome


@given(ANY_TRACE, cards(), st.sampled_from(["platform", "user"]))
@settings(deadline=None, max_examples=300)
def test_every_trace_is_rated_or_has_a_reason_and_nothing_raises(trace, card, owner):
    outcome = rate(trace, card, default_ownership=owner)

    if isinstance(outcome, Rated):
        assert 0 <= total_micros(outcome) <= ENTRY_MICROS_MAX
        assert all(component.credits >= 0 and component.cost_usd >= 0 for component in outcome.components)
        assert all(len(component.formula) < 1000 for component in outcome.components)
    else:
        assert isinstance(outcome, Unrated)
        assert 0 < len(outcome.detail) < 500


@given(ANY_TRACE, cards(), st.sampled_from(["platform", "user"]))
@settings(deadline=None)
def test_the_customers_own_keys_never_pay_for_ai(trace, card, owner):
    owned = replace(trace, attributes={**trace.attributes, "aiCredentialsOwnership": "user"})

    outcome = rate(owned, card, default_ownership=owner)

    assert isinstance(outcome, Unrated) or all(each.credits == 0 for each in outcome.components if each.name == "ai")


@given(PRICED_UNITS, COST_RULES)
@settings(deadline=None)
def test_the_total_is_the_exact_sum_rounded_once(units, rule):
    """Calculated again in fractions, which never round."""
    price, minutes = Fraction(rule.credit_price_usd), sum(Fraction(unit.duration_s) for unit in units) / 60
    cost_usd = sum(Fraction(unit.cost_usd) for unit in units) + minutes * Fraction(rule.compute_usd_per_minute)

    assert total_micros(outcome_of(priced_trace(units), rule)) == round(
        cost_usd * Fraction(rule.margin) / price * 10**6
    )


@given(PRICED_UNITS, COST_RULES, st.decimals(min_value=0, max_value=1, places=12))
@settings(deadline=None)
def test_more_cost_is_never_fewer_credits(units, rule, more_usd):
    dearer = (replace(units[0], cost_usd=units[0].cost_usd + more_usd), *units[1:])

    assert total_micros(outcome_of(priced_trace(dearer), rule)) >= total_micros(outcome_of(priced_trace(units), rule))


@given(PRICED_UNITS, COST_RULES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_units_does_not_matter(units, rule, random):
    shuffled = list(units)
    random.shuffle(shuffled)

    assert outcome_of(priced_trace(tuple(shuffled)), rule) == outcome_of(priced_trace(units), rule)


@given(cards())
@settings(deadline=None)
def test_the_canonical_text_is_read_back_as_the_same_card(card):
    again = parse_card(card_text(card))

    assert (again, again.digest, card_text(again)) == (card, card.digest, card_text(card))


@given(cards(), cards())
@settings(deadline=None)
def test_two_cards_have_the_same_digest_if_and_only_if_they_say_the_same(one, other):
    assert (one.digest == other.digest) == (one == other)


@given(cards(), AMOUNTS)
@settings(deadline=None)
def test_a_changed_amount_changes_the_digest(card, margin):
    changed = RateCard(card.name, (replace(card.rules[0], margin=margin), *card.rules[1:]))

    assert (changed.digest == card.digest) == (margin == card.rules[0].margin)


@given(cards(), st.integers())
@settings(deadline=None)
def test_the_rule_of_a_moment_is_the_latest_that_has_begun(card, moment_us):
    begun = [rule for rule in card.rules if rule.from_us <= moment_us]

    assert card.rule_at(moment_us) == (begun[-1] if begun else None)


@given(ANY_TRACE, st.none() | st.just("cus_default"), st.booleans())
@settings(deadline=None)
def test_a_customer_is_found_or_the_reason_said_and_never_blank(trace, default, override):
    outcome = resolve(trace, CustomerPolicy(override=override, default=default, users={"0": "cus_0"}))

    assert outcome.customer_id.strip() if isinstance(outcome, Customer) else isinstance(outcome, NoCustomer)
