"""Rate cards over the whole path: a dated rule bills usage from its date, and no change of a card changes a past bill.

Issue text, "Rate card changes". A trace costs 0.01 USD and takes 12 s: at the default prices 250 credits and 250.
"""

import pytest

from builders import CREDIT_MICROS, NOW_US, PROJECT, ingested
from tallymark.core.clock import DAY_US, HOUR_US, format_time
from tallymark.sandbox.langfuse import SandboxLangfuse

GENERATIONS = ("legacy", "events_only")
TODAY_MINUTES_AGO, YESTERDAY_MINUTES_AGO = 60, 24 * 60
CHANGE = "2026-11-23T00:00:00Z"


@pytest.fixture(params=GENERATIONS)
def langfuse(request, clock):
    """A sandbox of each generation."""
    return SandboxLangfuse(clock=clock, generation=request.param)


@pytest.fixture
def card(settings, tmp_path):
    """A function that writes the one card file anew, with rules of (from, price in USD, ai), and gives its settings."""

    def write(*rules, **changes):
        path = tmp_path / "rate-card.toml"
        path.write_text('name = "test"\n' + "".join(rule_text(*rule) for rule in rules))
        return settings(BILLING_RATE_CARD=str(path), **changes)

    return write


def rule_text(from_text, price_usd, ai="cost"):
    """A rule of a card; `from_text` is "beginning" or a time."""
    moment = f'"{from_text}"' if from_text == "beginning" else from_text
    prices = f'credit_price_usd = "{price_usd}"\ncompute_usd_per_minute = "0.05"'
    return f'[[rule]]\nfrom = {moment}\n{prices}\nai = "{ai}"\n'


def grow(langfuse, trace_id, at_us):
    """Report late usage of a trace: a second generation of 0.01 USD at the time of its first."""
    trace, [generation] = ingested(trace_id, at_us=at_us)
    langfuse.put_trace(PROJECT, trace, [generation, {**generation, "id": f"{trace_id}-late"}])


def of(**credits):
    """Balances in micro-credits."""
    return {customer: number * CREDIT_MICROS for customer, number in credits.items()}


# ---- a dated rule


def test_a_rule_bills_usage_from_its_date_on_and_the_one_before_what_was_earlier(put, run, card, balance):
    """The time of the trace chooses the rule, whenever it is read; a rule begins with its very moment."""
    put("before", customer="cus_old", minutes_ago=12 * 60 + 1)
    put("at", customer="cus_new", minutes_ago=12 * 60)
    put("after", customer="cus_new", minutes_ago=60)

    summary = run(card(("beginning", "0.00004"), (CHANGE, "0.00002")))

    assert summary.processed == 3
    assert balance() == of(cus_old=500, cus_new=2000)


def test_a_rule_of_the_future_waits_for_its_date(put, run, card, balance, clock):
    """Entered days ahead, it changes nothing until its time has come, and then only what happens from then on."""
    to = card(("beginning", "0.00004"), ("2026-11-25T00:00:00Z", "0.00002"))
    put("before")
    run(to)
    assert balance() == of(cus_1=500)
    clock.advance(3 * DAY_US // 1_000_000)
    put("after", customer="cus_2", at_us=clock.now_us() - HOUR_US)

    run(to, full=True)

    assert balance() == of(cus_1=500, cus_2=1000)


def test_usage_before_the_first_rule_is_held_until_a_rule_is_added(put, run, card, balance):
    """No rule is no price: held as unrated, and billed by the rule that a person adds for that time."""
    put("t1", minutes_ago=YESTERDAY_MINUTES_AGO)
    put("t2", customer="cus_2")
    assert run(card((CHANGE, "0.00004"))).held["unrated"] == 1
    assert balance() == of(cus_2=500)

    run(card(("beginning", "0.00002"), (CHANGE, "0.00004")))

    assert balance() == of(cus_1=1000, cus_2=500)


def test_a_held_trace_without_a_cost_is_not_free_once_a_rule_is_added(put, run, card, balance):
    """That tokens have no cost is found out when a rule wants to know it, however long the trace was held before."""
    put("t1", minutes_ago=YESTERDAY_MINUTES_AGO, cost=None)
    assert run(card((CHANGE, "0.00004"))).held["unrated"] == 1

    summary = run(card(("beginning", "0.00004")))

    assert (summary.held["unpriced"], summary.processed, balance()) == (1, 0, {})


def test_a_held_trace_without_a_cost_is_not_free_once_ai_is_billed(put, run, card, balance):
    """A card that bills no AI usage does not ask for its cost; the next one does."""
    put("t1", customer=None, cost=None)
    assert run(card(("beginning", "0.00004", "none"))).held["no_customer"] == 1

    summary = run(card(("beginning", "0.00004"), BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9"))

    assert (summary.held["unpriced"], summary.processed, balance()) == (1, 0, {})


# ---- another card


@pytest.mark.parametrize("later", GENERATIONS)
def test_another_card_changes_nothing_that_was_billed(later, put, run, card, balance, stripe, langfuse):
    """Every price of the past is another: a full sync bills nothing, even through the other generation."""
    for number in range(20):
        put(f"t{number}", customer=f"cus_{number % 3}", minutes_ago=60 + 100 * number, cost="0.0137", seconds=number)
    run(card(("beginning", "0.00004"), (CHANGE, "0.00003")))
    before, sent = balance(), len(stripe.meter_events())

    langfuse.set_generation(later)
    to = card(("beginning", "0.00001"), ("2026-11-22T00:00:00Z", "0.00002"))
    again = run(to, full=True)

    assert (again.credits, again.adjusted, again.processed) == ("0.000000", 0, 0)
    assert (balance(), len(stripe.meter_events())) == (before, sent)
    assert run(to, full=True).credits == "0.000000"


def test_late_usage_is_billed_by_the_card_that_billed_its_trace(put, run, card, balance, langfuse, look):
    """The difference is at the old price and its entry names the old card; a trace that is new takes the new one."""
    put("t1")
    old = card(("beginning", "0.00004"))
    run(old)
    grow(langfuse, "t1", NOW_US - HOUR_US)
    put("t2", customer="cus_2")
    new = card(("beginning", "0.00002"))

    summary = run(new)

    assert (summary.adjusted, balance()) == (1, of(cus_1=750, cus_2=1000))
    digests = look("select trace_id, kind, card_digest from entry order by trace_id, entry_id")
    assert digests == [
        ("t1", "charge", old.rate_card.digest),
        ("t1", "adjustment", old.rate_card.digest),
        ("t2", "charge", new.rate_card.digest),
    ]


@pytest.mark.parametrize("rest", [("2026-11-23T11:30:00Z", "0.00002"), ("2027-01-01T00:00:00Z", "0.00002")])
def test_a_rule_that_was_removed_from_the_file_still_bills_late_usage(rest, put, run, card, balance, langfuse):
    """The ledger keeps the cards: of the rule that billed the trace nothing is left in the file."""
    put("t1")
    run(card(("beginning", "0.00004")))
    grow(langfuse, "t1", NOW_US - HOUR_US)

    summary = run(card(rest))

    assert (summary.adjusted, summary.held["unrated"], balance()) == (1, 0, of(cus_1=750))


def test_a_card_that_comes_back_is_the_same_card(put, run, card, look):
    """Its digest is its content, so a change that is taken back leaves two cards in the ledger and not three."""
    for price_usd in ("0.00004", "0.00002", "0.000040"):
        put(f"t{price_usd}")
        run(card(("beginning", price_usd)))

    assert look("select count(*) from rate_card") == [(2,)]


def test_the_prices_of_settings_are_a_card_too(put, run, settings, balance):
    """A margin that is raised in the environment bills what is new, and nothing again."""
    put("t1")
    run()
    put("t2", customer="cus_2")

    summary = run(settings(BILLING_MARGIN_MULTIPLIER="2"), full=True)

    assert (summary.adjusted, balance()) == (0, of(cus_1=500, cus_2=1000))


def test_times_of_rules_are_moments(put, run, card, balance):
    """A rule may be dated in any zone; it begins at that moment in UTC."""
    put("before", minutes_ago=61, customer="cus_old")
    put("after", minutes_ago=60, customer="cus_new")
    moment = format_time(NOW_US - HOUR_US + 2 * HOUR_US).replace("Z", "+02:00")

    run(card(("beginning", "0.00004"), (moment, "0.00002")))

    assert balance() == of(cus_old=500, cus_new=1000)


@pytest.mark.parametrize("owners", [("platform", "user"), ("user", "platform")])
def test_another_default_owner_changes_nothing_that_was_billed(owners, put, run, settings, balance, langfuse):
    """Whose AI credentials a silent trace has used was decided when it was billed; late usage follows that."""
    first, second = (settings(BILLING_DEFAULT_AI_OWNERSHIP=owner) for owner in owners)
    put("t1")
    run(first)
    before = balance()

    assert (run(second, full=True).credits, balance()) == ("0.000000", before)
    grow(langfuse, "t1", NOW_US - HOUR_US)
    run(second, full=True)

    assert balance() == of(cus_1=750 if owners[0] == "platform" else 250)
