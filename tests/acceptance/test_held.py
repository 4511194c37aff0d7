"""`tallymark held` as people and scripts run it: what it shows, what it asks, what it writes, and how it ends."""

import getpass
import re
import shlex

import pytest

from builders import CREDITS_OF_A_TRACE, ingested
from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, HOUR_US
from worlds import PROJECT, on_a_terminal, open_world, tallymark

WHY = ("--why", "agreed by mail")


@pytest.fixture
def world(tmp_path):
    """A world with one late trace, two without a customer and one unpriced, synced once."""
    now_us = SystemClock().now_us()
    with open_world(tmp_path) as world:
        world.stripe.add_subscription(
            "cus_1", "credits", started_at_us=now_us - 20 * DAY_US, anchor_us=now_us - 2 * HOUR_US, period="day"
        )
        write(world, "late", at_us=now_us - 3 * HOUR_US)
        write(world, "nobody-1", at_us=now_us - HOUR_US, customer=None)
        write(world, "nobody-2", at_us=now_us - HOUR_US, customer=None)
        write(world, "unpriced", at_us=now_us - HOUR_US, cost=None)
        assert world.run("sync").status == 1
        yield world


def write(world, trace_id, **changes):
    trace, observations = ingested(trace_id, **changes)
    world.langfuse.put_trace(PROJECT, trace, observations)


def late_of(world):
    """The identifier of the held meter event."""
    ((identifier,),) = world.ask("select meter_event_id from meter_event where state = 'held'")
    return identifier


def test_list_shows_reasons_amounts_and_remedies(world):
    """By reason, with what they are worth; the settings that decide are named."""
    found = world.run("held", "list", "--json").json

    assert {row["reason"]: (row["traces"], row["meter_events"], row["credits"]) for row in found["reasons"]} == {
        "late_period": (1, 1, "500.000000"),
        "no_customer": (2, 0, "1000.000000"),
        "unpriced": (1, 0, "0.000000"),
    }
    assert found["policy"] == {
        "late_period": "hold",
        "invoice_grace_hours": "1",
        "corrections": "carry",
        "deleted_traces": "credit",
    }
    text = world.run("held", "list").out
    assert "late_period" in text
    assert late_of(world) in text


def test_list_of_one_reason(world):
    """Everything else is left out."""
    found = world.run("held", "list", "--json", "--reason", "no_customer").json

    assert [row["reason"] for row in found["reasons"]] == ["no_customer"]
    assert {row["trace_id"] for row in found["traces"]} == {"nobody-1", "nobody-2"}
    assert found["meter_events"] == []


def test_every_command_that_show_offers_is_taken(world):
    """Each choice comes with a command line, and that line is understood as it stands."""
    choices = [
        *world.run("held", "show", late_of(world), "--json").json["choices"],
        *world.run("held", "show", "nobody-1", "--json").json["choices"],
        *world.run("held", "show", "unpriced", "--json").json["choices"],
    ]

    assert len(choices) == 5 + 2 + 3
    for choice in choices:
        name, *arguments = shlex.split(choice["command"])
        assert name == "tallymark"
        ended = world.run(*arguments)
        # Nobody is there to be asked, so what is worth something is refused for that, and for nothing else.
        assert (ended.status, "add --yes" in ended.err) in ((2, True), (0, False)), (choice, ended.err)


def test_show_explains_a_trace_and_a_meter_event_to_people(world):
    """Amounts, evidence and choices."""
    text = world.run("held", "show", late_of(world)).out
    assert "late period" in text
    assert "500.000000 credits of usage" in text
    assert f"tallymark held waive {late_of(world)}" in text

    text = world.run("held", "show", "late").out
    assert f"meter event {late_of(world)}: held (late period)" in text


def test_release_and_sync_bill_it(world):
    """Re-dated by a person's word, and said so; the tally is Stripe's."""
    ended = world.run("held", "release", late_of(world), "--bill-now", *WHY, "--yes", "--by", "anna", "--json")

    assert ended.status == 0
    assert ended.json["credits"] == "500.000000"
    assert [one["decision"] for one in ended.json["decisions"]] == [1]
    world.run("sync")
    assert world.stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}
    assert "re-dated by decision 1 (bill_now by anna): agreed by mail" in world.run("explain", "late").out


def test_waive_says_the_amount_first(world):
    """On the standard error, so that a script's output stays one object."""
    ended = world.run("held", "waive", late_of(world), *WHY, "--yes")

    assert "500.000000 credits together" in ended.err
    assert "decision 1" in ended.out
    found = world.run("held", "decisions", "--json").json["decisions"]
    assert [(one["verb"], one["who"], one["credits"], one["why"]) for one in found] == [
        ("waive", getpass.getuser(), "500.000000", "agreed by mail")
    ]


def test_all_of_a_reason(world):
    """Two traces, one command; the next sync bills them."""
    chosen = ("--reason", "no_customer", "--all", "--customer", "cus_2")
    ended = world.run("held", "release", *chosen, *WHY, "--yes", "--json")

    assert len(ended.json["decisions"]) == 2
    world.run("sync")
    assert world.stripe.tally() == {("cus_2", "credits"): 2 * CREDITS_OF_A_TRACE}


def test_a_rule_from_the_command_line(world):
    """Made, listed, used, removed."""
    made = world.run("held", "release", "--user", "user-1", "--customer", "cus_2", *WHY, "--by", "anna", "--json")
    assert made.status == 0

    world.run("sync")
    assert world.stripe.tally() == {("cus_2", "credits"): 2 * CREDITS_OF_A_TRACE}
    (rule,) = world.run("held", "rules", "list", "--json").json["rules"]
    assert (rule["kind"], rule["value"], rule["customer"], rule["who"]) == ("user", "user-1", "cus_2", "anna")
    assert world.run("held", "rules", "remove", "user", "user-1", *WHY).status == 0
    assert world.run("held", "rules", "list", "--json").json["rules"] == []
    assert world.run("held", "rules", "remove", "user", "user-1", *WHY).status == 2


@pytest.mark.parametrize(("answer", "status", "decisions"), [("y\n", 0, 1), ("n\n", 130, 0)])
def test_a_terminal_is_asked(world, answer, status, decisions):
    """What is worth something needs a yes, given or typed."""
    ended, said = on_a_terminal(world, answer, "held", "waive", late_of(world), *WHY)

    assert ended == status
    assert "500.000000 credits together" in said
    assert world.ask("select count(*) from decision") == [(decisions,)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("waive", "late-id", *WHY), "add --yes"),
        (("waive", "late-id", *WHY, "--json"), "--json asks nobody"),
        (("waive", "late-id", "--yes"), "--why"),
        (("waive", *WHY, "--yes"), "ids, or a reason"),
        (("waive", "--all", *WHY, "--yes"), "--reason and --all go together"),
        (("waive", "no-such", *WHY, "--yes"), "knows no trace"),
        (("release", "late-id", *WHY, "--yes"), "name a choice"),
        (("release", "late-id", "--as-is", "--bill-now", *WHY, "--yes"), "one choice"),
        (("release", "late-id", "--arrived", *WHY, "--yes"), "makes no sense"),
        (("release", "--user", "u", *WHY), "needs --customer"),
        (("release", "late-id", "--user", "u", "--customer", "c", *WHY), "stands alone"),
        (("show", "no-such"), "knows no trace"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(world, arguments, words):
    """Exit status 2, with what to do instead."""
    arguments = [late_of(world) if word == "late-id" else word for word in arguments]

    ended = world.run("held", *arguments)

    assert ended.status == 2
    assert words in re.sub(r"\s+", " ", ended.err)
    assert world.ask("select count(*) from decision") == [(0,)]


def test_without_a_ledger_there_is_nothing_to_decide(tmp_path):
    """As for other commands that read it."""
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-x", "LANGFUSE_SECRET_KEY": "sk-lf-x"}
    url = f"sqlite:///{tmp_path / 'none.sqlite3'}"

    ended = tallymark(tmp_path, "held", "waive", "x", *WHY, "--yes", BILLING_LEDGER_URL=url, **keys)

    assert ended.status == 4
    assert not (tmp_path / "none.sqlite3").exists()


def test_settings_of_corrections_are_shown_and_checked(world):
    """`config show` names them; cancel without trace buckets is refused."""
    rows = world.run("config", "show", "--json", BILLING_DELETED_TRACES="hold").json["settings"]
    assert {row["setting"]: row["value"] for row in rows}["BILLING_DELETED_TRACES"] == "hold"

    ended = world.run("sync", BILLING_CORRECTIONS="cancel")
    assert (ended.status, "BILLING_METER_BUCKET" in ended.err) == (2, True)
