"""The least-privilege key of Stripe: enough for every command; `tallymark doctor` says what is missing or too much."""

import re
from pathlib import Path

import pytest

from builders import CREDITS_OF_A_TRACE, ingested
from tallymark.clock import SystemClock
from tallymark.core.clock import HOUR_US
from tallymark.sandbox.stripe import SandboxStripe
from worlds import PROJECT, open_world

KEY = "rk_test_least_privilege"
LEAST = {"meters:read", "meter_events:write", "events:read", "subscriptions:read", "customers:read"}
SETTINGS = {"BILLING_STRIPE_SECRET_KEY": KEY, "BILLING_DEFAULT_STRIPE_CUSTOMER_ID": "cus_1"}
PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "security.md").read_text("utf-8")


def world_with(folder, permissions):
    """A world whose Stripe takes this key, and one trace to bill."""
    stripe = SandboxStripe(clock=SystemClock(), keys={KEY: permissions})
    stripe.add_meter("credits")
    stripe.add_customer("cus_1")
    return open_world(folder, stripe=stripe)


def add_trace(world):
    trace, observations = ingested("t1", at_us=SystemClock().now_us() - HOUR_US)
    world.langfuse.put_trace(PROJECT, trace, observations)


def told_of_stripe(world, **settings):
    """(status, detail) of what the doctor finds about Stripe, and its exit status."""
    ended = world.run("doctor", "--json", **{**SETTINGS, **settings})
    rows = [row for row in ended.json["findings"] if row["check"] in ("stripe", "customers", "periods")]
    return ended.status, [(row["status"], row["detail"]) for row in rows]


def test_the_least_key_is_enough(tmp_path):
    """For a run that bills, for comparing, and for the doctor, who writes nothing that counts."""
    with world_with(tmp_path, LEAST) as world:
        status, findings = told_of_stripe(world)
        assert (status, {verdict for verdict, _ in findings}) == (0, {"ok"}), findings
        assert any("only `tallymark held release --invoice-item` needs that" in detail for _, detail in findings)
        assert world.stripe.meter_events() == []

        add_trace(world)
        assert world.run("sync", **SETTINGS).status == 0
        assert world.run("reconcile", "--repair", **SETTINGS).status == 0
        assert world.stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


@pytest.mark.parametrize(
    ("permission", "words", "verdict"),
    [
        ("meters:read", "grant Meters: read", "problem"),
        ("meter_events:write", "grant Meter events: write", "problem"),
        ("events:read", "grant Events: read", "warning"),
        ("subscriptions:read", "grant Subscriptions: read", "problem"),
        ("customers:read", "grant Customers: read", "problem"),
    ],
)
def test_what_is_missing_is_named_and_nothing_else(tmp_path, permission, words, verdict):
    """One permission was taken away, and the one is told; reports that cannot be read stop no run."""
    with world_with(tmp_path, LEAST - {permission}) as world:
        status, findings = told_of_stripe(world)

        told = [(found, detail) for found, detail in findings if found != "ok"]
        assert (status, [found for found, _ in told]) == (2 if verdict == "problem" else 0, [verdict]), told
        assert words in told[0][1]
        assert KEY not in str(findings)


def test_all_that_is_missing_is_told_at_once(tmp_path):
    """Nobody grants one permission after the other."""
    with world_with(tmp_path, set()) as world:
        _, findings = told_of_stripe(world)

        assert {re.search("grant ([A-Z][a-z ]+)", detail)[1] for found, detail in findings if found != "ok"} == {
            "Meters",
            "Meter events",
            "Events",
            "Subscriptions",
            "Customers",
        }


def test_a_key_that_may_too_much_is_told(tmp_path):
    """Of a restricted key, what it reads needlessly; of the secret key of the live mode, that it may everything."""
    with world_with(tmp_path, LEAST | {"charges:read"}) as world:
        status, findings = told_of_stripe(world)
        assert (status, [detail for found, detail in findings if found == "warning"]) == (
            0,
            ["the key may read charges, which tallymark never does; take such permissions away in Stripe"],
        )


def test_a_live_secret_key_is_told(tmp_path):
    stripe = SandboxStripe(clock=SystemClock(), secret_key="sk_live_all_of_it", livemode=True)
    stripe.add_meter("credits")
    with open_world(tmp_path, stripe=stripe) as world:
        ended = world.run("doctor", "--json", BILLING_STRIPE_SECRET_KEY="sk_live_all_of_it")

        warnings = [row["detail"] for row in ended.json["findings"] if row["status"] == "warning"]
        assert (ended.status, warnings) == (
            0,
            ["the key may do everything in the account; make a restricted one (docs/howto/security.md)"],
        )


def test_a_run_whose_key_may_not_write_loses_nothing(tmp_path):
    """It says what to grant, and bills once it is granted."""
    with world_with(tmp_path, LEAST - {"meter_events:write"}) as world:
        add_trace(world)
        ended = world.run("sync", **SETTINGS)
        assert ended.status == 2, ended.err
        assert "grant Meter events: write" in ended.err + ended.out
        assert world.stripe.tally() == {}

        # The account's own key, as if the permission had been granted.
        assert world.run("sync").status == 0
        assert world.stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_the_page_names_the_least_permissions_and_the_optional_one():
    """Permission and level, as the sandbox calls them."""
    rows = re.findall(r"^\| ([A-Z][a-z ]+) \| (read|write) \|", PAGE, re.MULTILINE)

    assert {f"{name.lower().replace(' ', '_')}:{level}" for name, level in rows} == LEAST | {"invoices:write"}
