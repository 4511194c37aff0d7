"""Rates in API and dashboard: the card in force, those that were used, and what another one would have billed."""

import csv
import io

import pytest

from web_callers import READER, Browser

CARD = 'name = "double"\n[[rule]]\nfrom = "beginning"\ncredit_price_usd = "0.00002"\ncompute_usd_per_minute = "0.05"\n'
DATED = CARD + '[[rule]]\nfrom = 2026-11-23T11:00:00Z\ncredit_price_usd = "0.00004"\nai = "tokens"\n' \
    'compute_usd_per_minute = "0.05"\n[rule.tokens]\n"gpt*" = { per = 1000, credits = "100" }\n'  # fmt: skip


@pytest.fixture
def billed(put, run):
    """Two traces of one customer and one of another."""
    for number, customer in enumerate(("cus_1", "cus_1", "cus_2")):
        put(f"t{number}", customer=customer, minutes_ago=90 + number)
    return run()


def test_the_card_in_force_is_told_with_its_use(api, billed):
    """Its rules, what was checked, and what it billed; by its digest too."""
    found = api("GET", "/rates", token=READER).json()
    (used,) = found["items"]

    assert (found["name"], found["rules"][0]["from"], found["rules"][0]["to"]) == ("default", "beginning", None)
    assert (used["digest"], used["traces"], used["differs_from"]) == (found["digest"], 3, None)
    assert {finding["check"] for finding in found["findings"]} == {"rules", "effect", "values", "history"}
    card = {name: found[name] for name in ("name", "digest", "rules")}
    assert api("GET", f"/rates/{found['digest']}").json() == card
    assert api("GET", "/rates/never-used").status_code == 404


@pytest.mark.parametrize(("by", "keys"), [("customer", ["cus_1", "cus_2"]), ("day", ["2026-11-23"])])
def test_another_card_is_simulated(api, billed, look, by, keys):
    """Against what was billed; the ledger stays as it is."""
    before = look("select count(*) from run"), look("select count(*) from rate_card")
    found = api("POST", "/rates/simulate", json={"card": CARD, "by": by, "from": "2026-11-01"}).json()

    assert [row["key"] for row in found["rows"]] == keys
    assert (found["card"]["name"], found["from"]) == ("double", "2026-11-01T00:00:00.000Z")
    total = found["total"]
    assert (total["billed_credits"], total["simulated_credits"]) == ("1500.000000", "3000.000000")
    assert (total["difference_percent"], total["rated"]) == ("100.00", 3)
    assert (look("select count(*) from run"), look("select count(*) from rate_card")) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"card": "name ="}, 422),
        ({"card": CARD, "by": "model"}, 422),
        ({"card": CARD, "from": "x"}, 422),
        ({"card": CARD, "from": "2026-11-02", "to": "2026-11-01"}, 422),
        ({}, 400),
        ({"card": 1}, 400),
    ],
)
def test_what_cannot_be_simulated_is_refused(api, ledger, body, status):
    """With what is wrong with it."""
    answer = api("POST", "/rates/simulate", json=body)

    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)


def test_only_operators_simulate(api, billed, connect):
    """It reads every trace."""
    assert api("POST", "/rates/simulate", token=READER, json={"card": CARD}).status_code == 403


def test_the_page_shows_cards_and_simulates(browser, billed):
    """The text of the card in force is there to begin with; what was tried stays in the form, and leaves as a file."""
    text = browser.get("/rates").text
    assert "In force: default" in text and "credit_price_usd" in text and "used" in text

    shown = browser.send("/rates/simulate", card=CARD, by="customer", begin="", end="", form="").text
    assert "3,000.000000" in shown and "100.00" in shown and "name = &#34;double&#34;" in shown
    file = browser.send("/rates/simulate", card=DATED, by="day", begin="2026-11-01", end="", form="csv")
    assert [row["key"] for row in csv.DictReader(io.StringIO(file.text))] == ["2026-11-23", "total"]

    wrong = browser.send("/rates/simulate", card='name = "<b>"', by="customer")
    assert (wrong.status_code, "cannot be simulated" in wrong.text, "<b>" in wrong.text) == (422, True, False)


def test_a_card_has_a_page(browser, billed, api):
    """Whether it is in force or was."""
    digest = api("GET", "/rates").json()["digest"]

    assert "in force" in browser.get(f"/rates/{digest}").text
    assert browser.get("/rates/never").status_code == 404


def test_readers_see_no_form(connect, billed):
    """They may not use it."""
    reader = Browser(connect())
    reader.sign_in(READER)
    assert "textarea" not in reader.get("/rates").text
    assert reader.send("/rates/simulate", card=CARD).status_code == 403
