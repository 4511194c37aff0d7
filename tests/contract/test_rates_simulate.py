"""Simulated bills against real ones: ledgers that a sync wrote, the same card and others, and plain arithmetic."""

import contextlib
import hashlib
import sqlite3
from collections import Counter
from fractions import Fraction

import pytest
from observation_services import send_cost

from builders import CREDIT_MICROS, NOW_US, PROJECT, ingested
from tallymark.api import check_rates, show_rates, simulate_rates
from tallymark.core.clock import DAY_US, HOUR_US, SECOND_US, format_time, parse_time
from tallymark.errors import ConfigError, LedgerMissing, NotFound
from tallymark.flows.rates import check
from tallymark.rating.cards import card_text, parse_card
from tallymark.sandbox.story import tell

FROM_US = NOW_US - 40 * DAY_US
STORY_TRACES = 300
DEARER = {"credit_price_usd": "0.00005", "compute_usd_per_minute": "0.07", "margin": "1.3"}
CHANGE_US = NOW_US - DAY_US


@pytest.fixture
def write_card(tmp_path):
    """A function that writes a card file from rules of keys; `tokens` is the TOML of a token table."""

    def write(*rules, name="test", file="card.toml"):
        path = tmp_path / file
        path.write_text(f'name = "{name}"\n' + "".join(rule_text(**rule) for rule in rules))
        return path

    return write


def rule_text(start='"beginning"', tokens="", **keys):
    said = {"credit_price_usd": "0.00004", "compute_usd_per_minute": "0.05", **keys}
    lines = ["[[rule]]", f"from = {start}", *(f'{key} = "{text}"' for key, text in said.items())]
    return "\n".join(lines + (["[rule.tokens]", tokens] if tokens else [])) + "\n"


@pytest.fixture
def simulated(settings, tmp_path):
    """A function that simulates a card over all that the ledger has; the card in use unless a file is named."""

    def run(card=None, to=None, **request):
        to = to or settings()
        if card is None:
            card = tmp_path / "same.toml"
            card.write_text(card_text(to.rate_card))
        return simulate_rates(to, card, from_us=FROM_US, to_us=NOW_US + DAY_US, **request)

    return run


@pytest.fixture
def story(langfuse):
    """The story in the sandbox; a function that gives its traces by what became of them."""
    told = list(tell(STORY_TRACES, NOW_US))
    for one in told:
        langfuse.put_trace(PROJECT, one.trace, one.observations)
    return told


@pytest.fixture
def mixed(langfuse, story, put, run, balance):
    """A ledger of both generations with late usage, a bill that was lowered, and traces that are held."""
    put("grows")
    put("shrinks")
    put("free", cost="0", seconds=0)
    put("owned", metadata={"customerId": "cus_owned", "aiCredentialsOwnership": "user"})
    put("broken", metadata={"customerId": "cus_1", "aiCredentialsOwnership": "nobody"})
    run(from_us=FROM_US)
    put("grows", cost="0.0317")
    put("shrinks", cost="0.0041")
    assert run(full=True).adjusted == 2
    langfuse.set_generation("events_only")
    for number in range(20):
        put(f"late-{number}", customer=f"cus_{number % 3}", cost=f"0.0{number}37", seconds=number + 0.123)
    put("unpriced-late", cost=None)
    send_cost(langfuse, "late-3", "late-3-more", 0.0123456, at_us=NOW_US - HOUR_US + SECOND_US)
    send_cost(langfuse, story_id(story, "plain"), "story-more", 0.0071, at_us=NOW_US - HOUR_US)
    assert run().adjusted >= 1
    return balance()


def story_id(story, kind):
    return next(one.trace["id"] for one in story if one.kind == kind)


def billed_kinds(story):
    """The traces of the story that a sync bills."""
    return [one for one in story if one.kind in ("untagged", "user-owned keys", "bookmarked", "public", "plain")]


def micros(text):
    """Credits as text in micro-credits."""
    return round(Fraction(text) * CREDIT_MICROS)


def by_key(found, column):
    return {row["key"]: micros(row[column]) for row in found["rows"]}


# ---- the same card


def test_the_same_card_over_a_mixed_ledger_comes_to_what_was_billed(mixed, simulated, look):
    """To the micro-credit for every customer, and what was billed is Stripe's tally and the carry."""
    assert dict(look("select generation, count(*) from trace where outcome = 'billed' group by 1")).keys() == {
        "traces",
        "observations",
    }

    found = simulated()

    assert {key: amount for key, amount in by_key(found, "simulated_credits").items() if amount} == mixed
    assert {row["difference_credits"] for row in found["rows"]} == {"0.000000"}
    assert {row["difference_usd"] for row in found["rows"]} == {"0"}
    total = found["total"]
    assert (total["difference_credits"], total["difference_percent"], total["not_simulated"]) == ("0.000000", "0.00", 0)
    assert (total["unrated"], total["unpriced"]) == look(
        "select sum(reason = 'unrated'), sum(reason = 'unpriced') from trace where outcome = 'held'"
    )[0]


@pytest.mark.parametrize("by", ["customer", "day"])
def test_rows_add_up_to_the_total_and_every_trace_ends_once(by, mixed, simulated, write_card, look):
    """By either key; the traces are those that were billed or are held."""
    found = simulated(write_card(DEARER), by=by)

    total = found["total"]
    assert len(found["rows"]) > 3
    for column in ("traces", "rated", "unrated", "unpriced", "not_simulated", "held"):
        assert sum(row[column] for row in found["rows"]) == total[column]
    for column in ("billed_credits", "simulated_credits", "difference_credits"):
        assert sum(by_key(found, column).values()) == micros(total[column])
    for row in (*found["rows"], total):
        assert row["traces"] == sum(row[end] for end in ("rated", "unrated", "unpriced", "not_simulated", "held"))
    assert [(total["traces"],)] == look("select count(*) from trace where outcome in ('billed', 'held')")
    assert [row["key"] for row in found["rows"]] == sorted(row["key"] for row in found["rows"])


def test_a_simulation_writes_nothing(mixed, simulated, write_card, ledger_path, langfuse, stripe):
    """Not a byte of the ledger, and no request to anybody."""
    langfuse.clear_requests()
    stripe.clear_requests()
    before = hashlib.sha256(ledger_path.read_bytes()).digest()

    simulated(write_card(DEARER))

    assert hashlib.sha256(ledger_path.read_bytes()).digest() == before
    assert (langfuse.counts(), stripe.counts()) == ({}, {})


# ---- another card


def expected_micros(one, rule):
    """What a trace of the story is worth by cost and time, in fractions."""
    price, margin = Fraction(rule["credit_price_usd"]), Fraction(rule.get("margin", "1"))
    cost = sum((Fraction(repr(part["costDetails"]["total"])) for part in one.observations), Fraction(0))
    usd = (0 if one.kind == "user-owned keys" else cost) + seconds(one) / 60 * Fraction(rule["compute_usd_per_minute"])
    return round(usd * margin / price * CREDIT_MICROS)


def seconds(one):
    """How long a trace of the story took."""
    first, last = one.observations[0]["startTime"], one.observations[-1]["endTime"]
    return Fraction(parse_time(last) - parse_time(first), SECOND_US)


@pytest.mark.parametrize("generation", ["legacy", "events_only"])
def test_another_card_comes_to_what_plain_arithmetic_says(
    generation, clock, langfuse, story, run, simulated, write_card
):
    """With a rule that begins in the middle of the story: each trace by the rule of its own time."""
    langfuse.set_generation(generation)
    run(from_us=FROM_US)
    old = {"credit_price_usd": "0.00003", "compute_usd_per_minute": "0.01"}

    found = simulated(write_card(old, {"start": format_time(CHANGE_US), **DEARER}))

    expected = Counter()
    usd = Fraction(0)
    for one in billed_kinds(story):
        rule = DEARER if parse_time(one.trace["timestamp"]) >= CHANGE_US else old
        expected[one.customer] += expected_micros(one, rule)
        usd += Fraction(expected_micros(one, rule), CREDIT_MICROS) * Fraction(rule["credit_price_usd"])
    assert {key: amount for key, amount in by_key(found, "simulated_credits").items() if amount} == expected
    total = found["total"]
    assert abs(Fraction(total["simulated_usd"]) - usd) < Fraction(1, 10**12)
    assert Fraction(total["billed_usd"]) == Fraction(total["billed_credits"]) * Fraction("0.00004")
    assert micros(total["difference_credits"]) == expected.total() - micros(total["billed_credits"])
    share = 100 * Fraction(micros(total["difference_credits"]), micros(total["billed_credits"]))
    assert abs(Fraction(total["difference_percent"]) - share) <= Fraction("0.005")


def test_a_card_by_tokens_over_observations(langfuse, story, run, simulated, write_card):
    """Tokens are known of each observation, with its model."""
    langfuse.set_generation("events_only")
    run(from_us=FROM_US)

    found = simulated(write_card({"ai": "tokens", "tokens": '"house*" = { per = 1000, credits = "100" }'}))

    expected = Counter()
    for one in billed_kinds(story):
        tokens = sum(sum(part["usageDetails"].values()) for part in one.observations)
        ai = 0 if one.kind == "user-owned keys" else Fraction(tokens, 10)
        expected[one.customer] += round(
            (ai + seconds(one) / 60 * Fraction("0.05") / Fraction("0.00004")) * CREDIT_MICROS
        )
    # Those without a price are billed by their tokens.
    for one in (one for one in story if one.kind == "unpriced"):
        tokens = sum(sum(part["usageDetails"].values()) for part in one.observations)
        amount = Fraction(tokens, 10) + seconds(one) / 60 * Fraction("0.05") / Fraction("0.00004")
        expected[one.customer] += round(amount * CREDIT_MICROS)
    assert {key: amount for key, amount in by_key(found, "simulated_credits").items() if amount} == expected
    assert found["total"]["not_simulated"] == 0


def test_a_card_by_tokens_over_the_trace_list_is_not_guessed(story, run, simulated, write_card):
    """What was billed for traces with unknown tokens stands apart, and the rest is compared."""
    run(from_us=FROM_US)

    found = simulated(write_card({"ai": "tokens", "tokens": '"*" = { per = 1000, credits = "100" }'}))

    total = found["total"]
    own = [one for one in billed_kinds(story) if one.kind == "user-owned keys"]
    unknown = [one for one in billed_kinds(story) if one.kind != "user-owned keys"]
    unpriced = sum(one.kind == "unpriced" for one in story)
    assert total["not_simulated"] == len(unknown) + unpriced
    assert micros(total["not_simulated_credits"]) == sum(one.micros for one in unknown)
    assert (micros(total["billed_credits"]), total["difference_credits"]) == (
        sum(one.micros for one in own),
        "0.000000",
    )
    assert [(why["end"], why["traces"]) for why in found["why"]] == [("not_simulated", total["not_simulated"])]


def test_a_card_without_a_rule_for_some_usage_names_what_would_be_held(put, run, simulated, write_card):
    """Billed before, unrated by this card: the whole amount is a difference."""
    put("old", minutes_ago=26 * 60)
    put("new")
    run()

    found = simulated(write_card({"start": format_time(CHANGE_US)}))

    total = found["total"]
    assert (total["unrated"], total["difference_credits"], total["difference_percent"]) == (1, "-500.000000", "-50.00")
    ((end, traces),) = [(why["end"], why["traces"]) for why in found["why"]]
    assert (end, traces) == ("unrated", 1)


def test_a_held_trace_counts_once_the_card_can_rate_it(put, run, simulated, settings, write_card):
    """It was held for want of a rule; who is billed is what the settings say today."""
    late = write_card({"start": format_time(CHANGE_US)}, file="late.toml")
    put("old", minutes_ago=26 * 60, customer=None)
    put("new")
    assert run(settings(BILLING_RATE_CARD=str(late))).held["unrated"] == 1

    nobody = simulated(write_card({}))
    somebody = simulated(write_card({}), settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9"))

    assert by_key(nobody, "simulated_credits") == {"(no customer)": 0, "cus_1": 500 * CREDIT_MICROS}
    assert [row["held"] for row in nobody["rows"]] == [1, 0]
    assert by_key(somebody, "simulated_credits") == {"cus_1": 500 * CREDIT_MICROS, "cus_9": 500 * CREDIT_MICROS}
    assert [row["difference_percent"] for row in somebody["rows"]] == ["0.00", None]


def test_storage_alone_is_simulated_by_a_card_that_has_a_rate_for_it(langfuse, run, simulated, write_card):
    """Skipped as no usage before; without such a rate it is no part of the comparison."""
    trace, _ = ingested("t1", metadata={"customerId": "cus_1", "gbMonth": "2.5"})
    langfuse.put_trace(PROJECT, trace, [])
    assert run().skipped["no_billable_usage"] == 1

    found = simulated(write_card({"storage_credits_per_gb_month": "1000"}))

    assert by_key(found, "simulated_credits") == {"cus_1": 2500 * CREDIT_MICROS}
    assert simulated()["rows"] == []


def test_usage_before_and_after_the_range_is_left_out(put, run, settings, write_card):
    """From is in it, to is not."""
    for minutes in (120, 60, 59):
        put(f"t{minutes}", minutes_ago=minutes)
    run()

    found = simulate_rates(settings(), write_card({}), from_us=NOW_US - 2 * HOUR_US, to_us=NOW_US - HOUR_US)

    assert (found["total"]["traces"], found["from"]) == (1, format_time(NOW_US - 2 * HOUR_US))


def test_a_long_simulation_tells_how_far_it_is(put, run, simulated, write_card, monkeypatch):
    """With the number of traces that it will be."""
    monkeypatch.setattr("tallymark.flows.simulate.PROGRESS_TRACES", 2)
    for number in range(5):
        put(f"t{number}")
    run()
    told = []

    simulated(write_card({}), progress=lambda *step: told.append(step))

    assert told == [("simulate", 2, 5), ("simulate", 4, 5)]


def test_what_is_no_card_is_refused_before_the_ledger_is_asked(settings, tmp_path):
    """The file and the option are named."""
    path = tmp_path / "card.toml"
    path.write_text('name = "test"\n')

    for ask in (lambda: simulate_rates(settings(), path), lambda: check_rates(settings(), path)):
        with pytest.raises(ConfigError) as refused:
            ask()
        assert all(word in str(refused.value) for word in (str(path), "--card", "[[rule]]"))


def test_without_a_ledger_there_is_nothing_to_simulate(settings, write_card):
    """It says to sync first."""
    with pytest.raises(LedgerMissing, match="tallymark sync"):
        simulate_rates(settings(), write_card({}))


# ---- check and show


def of_check(found, check):
    """Status and words of one check."""
    return [(one["status"], one["detail"]) for one in found["findings"] if one["check"] == check]


def test_a_check_without_a_ledger_looks_at_the_card_alone(settings):
    """Before the first sync."""
    found = check_rates(settings())

    assert {one["status"] for one in found["findings"]} == {"ok"}
    assert (found["history"], found["name"], len(found["rules"])) == ([], "default", 1)


def test_a_check_says_from_when_on_a_card_differs_from_what_was_billed(put, run, settings, write_card):
    """A rule that was changed in the past; a rule of after all that was billed changes nothing of it."""
    put("t1", minutes_ago=26 * 60)
    put("t2")
    run()
    digest = settings().rate_card.digest
    change = write_card({}, {"start": format_time(CHANGE_US), "margin": "2"})
    later = write_card({}, {"start": format_time(NOW_US), "margin": "2"}, file="later.toml")

    ((status, detail),) = of_check(check_rates(settings(), change), "history")
    changed, unchanged = check_rates(settings(), change)["history"], check_rates(settings(), later)["history"]

    assert status == "warning"
    assert f"usage already billed keeps its card {digest}; only usage read from now on is rated by this one" in detail
    assert format_time(CHANGE_US) in detail
    assert [(used["digest"], used["traces"], used["differs_from"]) for used in changed] == [
        (digest, 2, format_time(CHANGE_US))
    ]
    assert [used["differs_from"] for used in unchanged] == [None]
    assert [status for status, _ in of_check(check_rates(settings(), later), "history")] == ["ok"]


def test_a_card_in_use_is_no_finding_whatever_was_billed_before(put, run, settings, write_card):
    """What it changed was said before it was used; the difference is told all the same."""
    put("t1")
    run()
    to = settings(BILLING_RATE_CARD=str(write_card(DEARER)))
    put("t2")
    run(to)

    found = check_rates(to)

    assert {status for status, _ in of_check(found, "history")} == {"ok"}
    assert sorted(used["differs_from"] is None for used in found["history"]) == [False, True]
    assert [used["traces"] for used in found["history"]] == [1, 1]


@pytest.mark.parametrize("generation", ["legacy", "events_only"])
def test_a_check_names_models_without_a_token_rate(generation, langfuse, settings, run, write_card, ledger):
    """Of the last 30 days, where tokens were used; read as wholes, traces tell no model, and that is said."""
    langfuse.set_generation(generation)
    for number, model in enumerate(["other-model", "house-model"]):
        trace, [part] = ingested(f"t{number}")
        silent = {"id": f"silent-{number}", "model": "silent-model", "startTime": part["startTime"]}
        langfuse.put_trace(PROJECT, trace, [{**part, "model": model}, silent])
    run()
    some = parse_card(write_card({"ai": "tokens", "tokens": '"house*" = { per = 1000, credits = "100" }'}).read_text())
    every = parse_card(write_card({"ai": "tokens", "tokens": '"*" = { per = 1000, credits = "100" }'}).read_text())

    models, tokens = (of_check(check(some, ledger, NOW_US), name) for name in ("models", "tokens"))

    if generation == "events_only":
        assert (models[0][0], "for other-model (1), by" in models[0][1], tokens) == ("warning", True, [])
    else:
        assert (models[0][0], tokens[0][0], tokens[0][1][:8]) == ("ok", "warning", "2 traces")
    assert [status for status, _ in of_check(check(every, ledger, NOW_US), "models")] == ["ok"]
    assert [status for status, _ in of_check(check(some, ledger, NOW_US + 40 * DAY_US), "models")] == ["ok"]
    assert of_check(check(settings().rate_card, ledger, NOW_US), "models") == []


def test_models_of_a_rule_that_is_over_are_no_matter(langfuse, run, put, write_card, ledger):
    """Nothing is billed by it any more; rules of today and those to come are looked at."""
    langfuse.set_generation("events_only")
    put("t1")
    run()
    tokens = {"ai": "tokens", "tokens": '"gpt*" = { per = 1000, credits = "100" }'}
    over = write_card(tokens, {"start": format_time(CHANGE_US)})
    to_come = write_card({}, {"start": format_time(NOW_US + DAY_US), **tokens}, file="to-come.toml")

    ending = write_card(tokens, {"start": format_time(NOW_US + DAY_US)}, file="ending.toml")

    found = [check(parse_card(path.read_text()), ledger, NOW_US) for path in (over, to_come, ending)]

    warned = [[status for status, _ in of_check(one, "models")] for one in found]
    assert warned == [[], ["warning"], ["warning"]]


def test_show_gives_a_card_of_the_past(put, run, settings, write_card):
    """By its digest, though its file is gone; an unknown one names those that there are."""
    to = settings(BILLING_RATE_CARD=str(write_card({}, {"start": format_time(CHANGE_US), **DEARER})))
    put("t1")
    run(to)

    of_past = show_rates(settings(), to.rate_card.digest)
    at = show_rates(to, at_us=CHANGE_US)

    assert of_past == show_rates(to)
    assert [(rule["from"], rule["to"]) for rule in of_past["rules"]] == [
        ("beginning", format_time(CHANGE_US)),
        (format_time(CHANGE_US), None),
    ]
    assert [rule["margin"] for rule in at["rules"]] == ["1.3"]
    with pytest.raises(NotFound, match=to.rate_card.digest):
        show_rates(settings(), "none")


def test_what_was_waived_was_not_billed(put, run, simulated, ledger_path):
    """The same card would have billed what was waived."""
    put("t1")
    put("t2")
    run()
    with contextlib.closing(sqlite3.connect(ledger_path)) as database:
        database.execute("update trace set waived_micros = billed_micros where trace_id = 't2'")
        database.commit()

    total = simulated()["total"]

    assert (total["billed_credits"], total["simulated_credits"]) == ("500.000000", "1000.000000")
