"""`tallymark rates` as a script runs it: exit statuses, JSON, CSV and tables, over a ledger that a sync wrote."""

import csv
import io
from decimal import Decimal

import pytest

from worlds import CREDIT_MICROS, open_world, tallymark

CARD = 'name = "{name}"\n[[rule]]\nfrom = "beginning"\ncredit_price_usd = "{price}"\ncompute_usd_per_minute = "0.05"\n'
SAME, HALF, WRONG = "same.toml", "half.toml", "wrong.toml"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world whose story was synced once, with three card files beside it."""
    with open_world(tmp_path_factory.mktemp("rates"), traces=300) as world:
        assert world.run("sync").status == 1
        (world.folder / SAME).write_text(CARD.format(name="default", price="0.000040"))
        (world.folder / HALF).write_text(CARD.format(name="half", price="0.00008"))
        (world.folder / WRONG).write_text(CARD.format(name="wrong", price="0"))
        yield world


@pytest.mark.parametrize(("card", "status"), [((), 0), (("--card", SAME), 0), (("--card", HALF), 1)])
def test_check_ends_with_0_or_1(world, card, status):
    """0 for the card in use, by settings or by file; 1 for one that says something else of what was billed."""
    ended = world.run("rates", "check", "--json", *card)

    assert (ended.status, ended.out.count("\n")) == (status, 1)
    assert set(ended.json) == {"name", "digest", "rules", "findings", "history"}
    assert [used["traces"] for used in ended.json["history"]] == [world.expected.results["processed"]]


@pytest.mark.parametrize("command", ["check", "simulate"])
@pytest.mark.parametrize(("card", "words"), [(WRONG, "credit_price_usd"), ("none.toml", "cannot be read")])
def test_exit_2_for_what_is_no_card(world, command, card, words):
    """Key and file are named; JSON says it too."""
    ended = world.run("rates", command, "--json", "--card", card)

    assert (ended.status, ended.json["exit_status"]) == (2, 2)
    assert all(word in ended.json["error"] for word in (words, card, "--card"))


def test_exit_2_when_the_card_of_the_settings_is_wrong(world):
    """Every command refuses it; `rates check` is where one looks."""
    ended = world.run("rates", "check", BILLING_RATE_CARD=str(world.folder / WRONG))

    assert (ended.status, "BILLING_RATE_CARD" in ended.err) == (2, True)


def test_check_needs_no_ledger_and_no_key(tmp_path):
    """A card can be checked where nothing else is set up, as in a pipeline."""
    (tmp_path / HALF).write_text(CARD.format(name="half", price="0.00008"))

    ended = tallymark(tmp_path, "rates", "check", "--card", HALF)

    assert ended.status == 0, ended.err
    assert "half" in ended.out


def test_check_says_its_findings_to_people(world):
    """The sentence on history stands there as it is."""
    ended = world.run("rates", "check", "--card", HALF)

    assert "only usage read from now on is rated by this one" in ended.out
    assert "warning" in ended.out


def test_show_prints_rules_and_digest(world):
    """Of the card in use, by its digest too; a moment without a rule is told."""
    ended = world.run("rates", "show", "--json")
    digest = ended.json["digest"]

    assert ended.status == 0
    assert [rule["credit_price_usd"] for rule in ended.json["rules"]] == ["0.00004"]
    assert digest in world.run("rates", "show").out
    assert world.run("rates", "show", "--digest", digest).out == world.run("rates", "show", "--at", "1d").out
    assert world.run("rates", "show", "--digest", "0" * 16).status == 2


def test_show_says_that_no_rule_holds(world):
    """Before the first rule of a card."""
    later = world.folder / "later.toml"
    later.write_text(CARD.format(name="later", price="1").replace('"beginning"', "2026-06-01T00:00:00Z"))

    ended = world.run("rates", "show", "--at", "2026-05-31", BILLING_RATE_CARD=str(later))

    assert (ended.status, "no rule holds" in ended.out) == (0, True)


def test_simulate_says_the_same_in_every_form(world):
    """Table, CSV and JSON: half the credits at twice the price for every customer, and the total last in the table."""
    found = world.run("rates", "simulate", "--json", "--card", HALF).json
    lines = list(csv.DictReader(io.StringIO(world.run("rates", "simulate", "--card", HALF, "--format", "csv").out)))
    table = [line.split() for line in world.run("rates", "simulate", "--card", HALF).out.splitlines()]

    billed = {row["key"]: Decimal(row["billed_credits"]) * CREDIT_MICROS for row in found["rows"]}
    assert {key: micros for key, micros in billed.items() if micros} == world.expected.micros
    assert [{key: str(value) if value is not None else "" for key, value in row.items()} for row in found["rows"]] == (
        lines
    )
    total = found["total"]
    assert total["difference_percent"] == "-50.00"
    assert abs(Decimal(total["difference_usd"])) < Decimal("0.0001")
    (of_total,) = [line for line in table if line[0] == "total"]
    assert of_total[1:5] == [str(total[name]) for name in ("traces", "billed_credits", "simulated_credits")] + [
        total["difference_credits"]
    ]


def test_simulate_of_the_same_card_differs_by_nothing(world):
    """Another spelling of the same numbers, from a file."""
    total = world.run("rates", "simulate", "--json", "--card", SAME).json["total"]

    assert (total["difference_credits"], total["difference_usd"], total["rated"]) == (
        "0.000000",
        "0",
        world.expected.results["processed"],
    )


def test_simulate_by_day_and_range(world):
    """Days are keys; a range without usage has no rows; one that ends before it begins is refused."""
    days = world.run("rates", "simulate", "--json", "--card", HALF, "--by", "day").json
    none = world.run("rates", "simulate", "--json", "--card", HALF, "--from", "2020-01-01", "--to", "2020-02-01").json
    wrong = world.run("rates", "simulate", "--card", HALF, "--from", "2026-11-02", "--to", "2026-11-01")

    assert all(len(row["key"]) == 10 for row in days["rows"])
    assert sum(row["traces"] for row in days["rows"]) == days["total"]["traces"] > 200
    assert (none["rows"], none["total"]["difference_percent"]) == ([], None)
    assert (wrong.status, "--from" in wrong.err) == (2, True)


def test_simulate_tells_what_could_not_be_simulated(world):
    """By tokens, over traces that were read as wholes: the credits that are in neither column."""
    tokens = world.folder / "tokens.toml"
    tokens.write_text(
        CARD.format(name="tokens", price="0.00004") + 'ai = "tokens"\n[rule.tokens]\n"*" = { per = 1, credits = "1" }\n'
    )

    total = world.run("rates", "simulate", "--json", "--card", tokens).json["total"]
    text = world.run("rates", "simulate", "--card", tokens).out

    assert total["not_simulated"] > 100
    assert f"{total['not_simulated']:,} not simulated" in text
    assert total["not_simulated_credits"] in text
    assert "tallymark held list" in text
