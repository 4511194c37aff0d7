"""What a card makes of a trace that the ledger knows: pure, one branch a test. 0.01 USD and 12 s are 500 credits."""

from dataclasses import replace
from decimal import Decimal

import pytest

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, bad_units, read_trace, settings_for
from tallymark.core.readings import CONFLICT
from tallymark.core.types import Rated, Reason, Unit
from tallymark.flows.decide import components_text
from tallymark.flows.rerate import End, Rerated, Rerater
from tallymark.ledger.history import Stored
from tallymark.rating.cards import parse_card
from tallymark.rating.rate import rate

RULE = '[[rule]]\nfrom = "beginning"\ncredit_price_usd = "0.00004"\ncompute_usd_per_minute = "0.05"\n'
BY_COST = parse_card(f'name = "by cost"\n{RULE}')
WITHOUT_AI = parse_card(f'name = "without AI"\n{RULE}ai = "none"\n')
STORAGE = parse_card(f'name = "storage"\n{RULE}storage_credits_per_gb_month = "1000"\n')
BY_TOKENS = parse_card(
    f'name = "by tokens"\n{RULE}ai = "tokens"\n[rule.tokens]\n"gpt*" = {{ per = 1000, credits = "100" }}\n'
)
LATER = parse_card(f'name = "later"\n{RULE}'.replace('"beginning"', "2199-01-01T00:00:00Z"))
CARDS = {card.digest: card for card in (BY_COST, WITHOUT_AI, STORAGE, BY_TOKENS, LATER)}


@pytest.fixture
def rerate(tmp_path):
    """A function that rates a stored trace by a card, with some settings."""

    def by(card, stored, **changes):
        return Rerater(settings_for(tmp_path, **changes), card, CARDS)(stored)

    return by


def billed(trace, card=BY_COST, ownership="platform"):
    """A trace as the ledger keeps it after a card billed it; what the trace list cannot tell is not kept."""
    rated = rate(trace, card, default_ownership=ownership)
    assert isinstance(rated, Rated)
    kept = replace(trace, unpriced=False) if trace.generation == "traces" else trace
    return Stored(kept, "billed", "", "cus_1", 1, card.digest, components_text(rated))


def unbilled(trace, outcome, reason):
    """A trace that was held or skipped."""
    return Stored(trace, outcome, reason, None, 0, None, "{}")


def observed(*units, seconds="12", **changes):
    """A trace that was read by its observations, each (cost, tokens, model)."""
    made = [Unit(f"o{n}", cost and Decimal(cost), None, tokens, model) for n, (cost, tokens, model) in enumerate(units)]
    time = Unit("(time)", None, Decimal(seconds))
    return read_trace(generation="observations", units=(*made, time), **changes)


def credits(number):
    """The end of a trace that is worth so many."""
    return Rerated(End.RATED, "cus_1", number * CREDIT_MICROS)


# ---- billed


def test_a_billed_trace_is_rated_by_the_card_for_the_customer_that_was_billed(rerate):
    """Even if today's settings would find another customer."""
    stored = billed(read_trace(customer=None))

    assert rerate(BY_COST, stored, BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9") == credits(CREDITS_OF_A_TRACE)
    assert rerate(WITHOUT_AI, stored) == credits(250)


def test_a_billed_trace_for_which_the_card_has_no_rule_would_be_held(rerate):
    """And the reason is told."""
    ended = rerate(LATER, billed(read_trace()))

    assert (ended.end, ended.micros, "no rule" in ended.detail) == (End.UNRATED, 0, True)


def test_a_billed_trace_of_storage_alone_is_free_without_a_storage_rate(rerate):
    """It stays in the comparison: what was billed for it is a difference."""
    trace = read_trace(cost="0", seconds="0", attributes={"customerId": "cus_1", "gbMonth": "2"})

    assert rerate(BY_COST, billed(trace, STORAGE)) == credits(0)
    assert rerate(STORAGE, billed(trace, STORAGE)) == credits(2000)


@pytest.mark.parametrize(("owner", "worth"), [("platform", 500), ("user", 250)])
@pytest.mark.parametrize("now", ["platform", "user"])
def test_whose_credentials_were_used_stays_as_it_was_billed(owner, worth, now, rerate):
    """The default ownership of today is no part of a card."""
    stored = billed(read_trace(), ownership=owner)

    assert rerate(BY_COST, stored, BILLING_DEFAULT_AI_OWNERSHIP=now) == credits(worth)


def test_components_on_meters_of_their_own_are_rounded_apart(rerate, tmp_path):
    """As they are billed: half a micro-credit each is 1 together, and 0 on two meters."""
    stored = billed(read_trace(cost="0.00000000002", seconds="0.000000024"))
    apart = replace(settings_for(tmp_path), meters={"compute": "compute"})

    assert rerate(BY_COST, stored).micros == 1
    assert Rerater(apart, BY_COST, CARDS)(stored).micros == 0


# ---- what the ledger does not know


def test_tokens_of_a_trace_read_as_a_whole_are_not_known(rerate):
    """With a cost there were some."""
    ended = rerate(BY_TOKENS, billed(read_trace()))

    assert (ended.end, ended.micros, "tokens" in ended.detail) == (End.NOT_SIMULATED, 0, True)


@pytest.mark.parametrize(
    ("cost", "owner", "worth"), [("0", "platform", 250), ("0.01", "user", 250), ("0", "user", 250)]
)
def test_tokens_do_not_matter_where_they_are_not_billed(cost, owner, worth, rerate):
    """No AI usage, or on the customer's own keys: known without them."""
    trace = read_trace(cost=cost, attributes={"customerId": "cus_1", "aiCredentialsOwnership": owner})

    assert rerate(BY_TOKENS, billed(trace)) == credits(worth)


@pytest.mark.parametrize("card", [BY_COST, BY_TOKENS])
@pytest.mark.parametrize("unpriced", [True, False])
def test_a_card_without_ai_did_not_ask_for_tokens_without_a_cost(card, unpriced, rerate):
    """The ledger knows no difference between no tokens and tokens without a cost, so neither is said."""
    trace = read_trace(cost="0", unpriced=unpriced)

    assert rerate(card, billed(trace, WITHOUT_AI)).end is End.NOT_SIMULATED
    assert rerate(WITHOUT_AI, billed(trace, WITHOUT_AI)) == credits(250)


def test_what_no_card_asked_does_not_matter_for_the_customers_own_keys(rerate):
    """Free either way."""
    trace = read_trace(cost="0", attributes={"customerId": "cus_1", "aiCredentialsOwnership": "user"})

    assert rerate(BY_COST, billed(trace, WITHOUT_AI)) == credits(250)


def test_a_cost_is_known_whatever_the_card_asked(rerate):
    """Billed by compute time alone, simulated by cost."""
    assert rerate(BY_COST, billed(read_trace(), WITHOUT_AI)) == credits(500)


def test_a_held_trace_that_no_rule_asked_is_not_simulated(rerate):
    """It was held because no rule held then."""
    stored = unbilled(read_trace(cost="0"), "held", Reason.UNRATED)

    assert rerate(BY_COST, stored).end is End.NOT_SIMULATED
    assert rerate(WITHOUT_AI, stored) == credits(250)


def test_observations_tell_tokens_and_costs(rerate):
    """Nothing of them is unknown: a model without a token rate is unrated, tokens without a cost are unpriced."""
    trace = observed(("0.01", 2000, "gpt-4o"), ("0", 500, "gpt-4o"))

    assert rerate(BY_TOKENS, billed(trace, WITHOUT_AI)) == credits(500)
    assert rerate(BY_COST, billed(trace, WITHOUT_AI)).end is End.UNPRICED
    other = rerate(BY_TOKENS, billed(observed(("0.01", 2000, "claude"))))
    assert (other.end, "'claude'" in other.detail) == (End.UNRATED, True)


def test_an_observation_that_has_a_cost_and_no_tokens_is_unrated_by_tokens(rerate):
    """The ledger knows all that there is: a sync would hold it too."""
    assert rerate(BY_TOKENS, billed(observed(("0.01", None, "gpt-4o")))).end is End.UNRATED


# ---- not billed


@pytest.mark.parametrize("reason", [Reason.NO_CUSTOMER, Reason.TOO_OLD, Reason.LATE_PERIOD])
def test_what_waits_for_something_else_than_a_card_stays_held(reason, rerate):
    """No card bills it."""
    assert rerate(BY_COST, unbilled(read_trace(), "held", reason)) == Rerated(End.HELD, "cus_1")


def test_observations_that_contradict_each_other_stay_held(rerate):
    """As `unrated`, but by no fault of the card."""
    trace = read_trace(attributes={"customerId": "cus_1", CONFLICT: "gbMonth"})

    assert rerate(BY_COST, unbilled(trace, "held", Reason.UNRATED)).end is End.HELD


def test_a_held_trace_that_the_card_can_rate_would_be_billed(rerate):
    """Unpriced, and the card bills no AI usage; or unrated, and the card has a rule."""
    unpriced = unbilled(read_trace(cost="0", unpriced=True), "held", Reason.UNPRICED)

    assert rerate(WITHOUT_AI, unpriced) == credits(250)
    assert rerate(BY_COST, unpriced).end is End.UNPRICED
    assert rerate(BY_COST, unbilled(read_trace(), "held", Reason.UNRATED)) == credits(500)


def test_a_held_trace_that_the_card_can_rate_needs_a_customer(rerate):
    """By today's settings; without one it is held for that."""
    stored = unbilled(read_trace(customer=None), "held", Reason.UNRATED)

    assert rerate(BY_COST, stored) == Rerated(End.HELD, None)
    found = rerate(BY_COST, stored, BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9")
    assert found == Rerated(End.RATED, "cus_9", CREDITS_OF_A_TRACE * CREDIT_MICROS)


def test_numbers_that_cannot_be_are_unrated_by_any_card(rerate):
    """What was wrong with them is told again."""
    ended = rerate(WITHOUT_AI, unbilled(read_trace(units=bad_units("no cost came")), "held", Reason.UNRATED))

    assert (ended.end, ended.detail) == (End.UNRATED, "no cost came")


def test_a_trace_without_usage_counts_only_if_the_card_bills_it(rerate):
    """Storage alone is usage by a card that has a rate for it."""
    trace = read_trace(cost="0", seconds="0")
    stored = unbilled(trace, "skipped", Reason.NO_BILLABLE_USAGE)
    keeping = replace(trace, attributes={**trace.attributes, "gbMonth": "3"})

    assert rerate(BY_COST, stored) is None
    assert rerate(STORAGE, stored) is None
    assert rerate(STORAGE, unbilled(keeping, "skipped", Reason.NO_BILLABLE_USAGE)) == credits(3000)
