"""The held inbox in the dashboard: from a trace that nobody pays for to a bill, and what is refused on the way."""

import html
import logging
import re

import pytest

from tallymark.sandbox.stripe import SandboxStripe
from web_callers import OPERATOR, READER, Browser

WHY = "ticket 4711"
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


@pytest.fixture
def waiting(put, run):
    """Two traces that name no customer, and one that is billed."""
    put("nobodys/1", minutes_ago=100, customer=None)
    put("nobodys-2", minutes_ago=90, customer=None)
    put("billed", minutes_ago=80)
    return run()


@pytest.fixture
def refusals(caplog):
    """A function: what was logged as refused so far."""
    caplog.set_level(logging.WARNING, "tallymark")
    return lambda: [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]


def fields_of(answer):
    """What the form to confirm sends."""
    form = answer.text.partition('action="/held/decide"')[2].partition("</form>")[0]
    found = {name: html.unescape(value) for name, value in HIDDEN.findall(form) if name not in ("_csrf_token", "ids")}
    return {**found, "ids": [html.unescape(value) for name, value in HIDDEN.findall(form) if name == "ids"]}


def test_a_trace_without_a_customer_is_billed_to_the_one_that_is_named(waiting, browser, run, stripe, look):
    """Held, looked at, decided after a look at the money, synced: Stripe counts it, and the log says who decided."""
    listed = browser.get("/held").text
    assert "no customer" in listed and 'href="/held?reason=no_customer"' in listed and "1,000.000000" in listed
    (address,) = set(re.findall(r'href="(/held/[^"]*nobodys%2F1)"', browser.get("/held?reason=no_customer").text))
    one = browser.get(address).text
    assert "Bill this customer" in one and "Bill it to nobody" in one and 'name="why"' in one

    seen = browser.send(
        "/held/confirm",
        choice="customer",
        ids=html.unescape(address[6:].replace("%2F", "/")),
        customer="cus_9",
        why=WHY,
    )
    assert "1 trace, 500.000000 credits, to customer" in re.sub(r"\s+", " ", seen.text)
    assert look("select count(*) from decision") == [(0,)]
    done = browser.send("/held/decide", **fields_of(seen))
    assert (done.status_code, done.headers["location"]) == (303, "/decisions?first=1&last=1")
    told = browser.get(done.headers["location"]).text
    assert "Decision 1" in told and "Ada" in told and WHY in told and "cus_9" in told
    run()

    assert stripe.tally()["cus_9", "credits"] == 500
    assert "Decision" in browser.get("/traces/nobodys%2F1").text
    assert "1,000.000000" not in browser.get("/held").text and "500.000000" in browser.get("/held").text
    assert browser.get("/decisions.csv").text.splitlines()[1].startswith("1,2026-11-23T12:00:00.000Z,Ada,assign,trace,")


def test_a_whole_cause_is_decided_at_once_or_those_that_are_ticked(waiting, browser, look):
    """By the same form; what is asked for twice is shown as nothing to decide."""
    page = browser.get("/held?reason=no_customer").text
    ticks = re.findall(r'type="checkbox" form="word" name="ids" value="([^"]+)"', page)
    some = browser.send("/held/confirm", choice="waive", scope="ticked", reason="no_customer", ids=ticks, why=WHY)
    whole = browser.send("/held/confirm", choice="waive", scope="all", reason="no_customer", why=WHY)

    assert len(ticks) == 2
    assert "2 traces, 1,000.000000 credits" in some.text and "2 traces, 1,000.000000 credits" in whole.text
    assert browser.send("/held/decide", **fields_of(whole)).headers["location"] == "/decisions?first=1&last=2"
    assert look("select distinct who, verb, why from decision") == [("Ada", "waive", WHY)]
    again = browser.send("/held/decide", **fields_of(some))
    assert (again.status_code, "does not wait for a decision" in again.text) == (422, True)
    assert "Nothing is held" in browser.get("/held").text


def test_what_changed_since_it_was_looked_at_is_refused_and_shown(waiting, browser, put, run, look):
    """With the new amount, to be confirmed anew."""
    seen = browser.send("/held/confirm", choice="waive", scope="all", reason="no_customer", why=WHY)
    put("nobodys-3", minutes_ago=70, customer=None)
    run()

    refused = browser.send("/held/decide", **fields_of(seen))

    assert refused.status_code == 422 and "It is something else by now" in refused.text
    assert "3 traces, 1,500.000000 credits" in refused.text
    assert look("select count(*) from decision") == [(0,)]
    assert browser.send("/held/decide", **fields_of(refused)).status_code == 303


def test_money_that_nobody_looked_at_is_not_decided_about(waiting, browser, look):
    """Nor without a reason in words, nor without a customer where one is needed."""
    for path, word in (
        ("/held/decide", {"choice": "waive", "ids": "nobodys-2", "why": WHY}),
        ("/held/confirm", {"choice": "waive", "ids": "nobodys-2", "why": " "}),
        ("/held/confirm", {"choice": "customer", "ids": "nobodys-2", "why": WHY}),
        ("/held/confirm", {"choice": "burn", "ids": "nobodys-2", "why": WHY}),
        ("/held/confirm", {"choice": "waive", "scope": "ticked", "why": WHY}),
    ):
        assert browser.send(path, **word).status_code == 422, word
    assert look("select count(*) from decision") == [(0,)]


def test_a_meter_event_that_stripe_refused_goes_to_another_customer(settings, run, put, clock, connect):
    """Found in the inbox with its answer, moved by a form of its own, and billed to the other one."""
    strict = SandboxStripe(clock=clock, any_customer=False, unknown_customer="sync")
    strict.add_meter("credits")
    strict.add_customer("cus_9")
    put("wrong", minutes_ago=90, customer="cus_typo")
    run(settings(bill_to=strict))
    browser = Browser(connect(bill_to=strict))
    browser.sign_in(OPERATOR)

    cause = browser.get("/held?reason=rejected").text
    (address,) = set(re.findall(r'href="(/held/tm-[^"]*)"', cause))
    one = browser.get(address).text
    seen = browser.send("/held/confirm", choice="customer", ids=address[6:], customer="cus_9", why=WHY)
    done = browser.send("/held/decide", **fields_of(seen))
    run(settings(bill_to=strict))

    assert "No such customer" in cause and "Bill another customer" in one and 'href="/traces/wrong"' in one
    assert "1 meter event, 500.000000 credits, to customer" in re.sub(r"\s+", " ", seen.text)
    assert done.status_code == 303 and "It does not wait for a decision." in browser.get(address).text
    assert strict.tally() == {("cus_9", "credits"): 500}


def test_who_may_not_decide_is_refused_and_logged_once(waiting, connect, browser, refusals, look):
    """A reader sees everything but the forms; a form without its token is refused, whoever sends it."""
    reader = Browser(connect())
    reader.sign_in(READER)
    word = {"choice": "waive", "ids": "nobodys-2", "why": WHY, "expected_credits": "500.000000", "expected_count": "1"}
    for path in ("/held", "/held?reason=no_customer", "/held/nobodys-2", "/held/rules", "/decisions"):
        answer = reader.get(path)
        assert answer.status_code == 200 and 'action="/held' not in answer.text, path

    assert reader.send("/held/decide", **word).status_code == 403
    assert len(refusals()) == 1 and "/held/decide" in refusals()[0]
    assert browser.client.post("/held/decide", data=word).status_code == 403
    assert len(refusals()) == 2
    assert look("select count(*) from decision") == [(0,)]


def test_a_rule_is_made_and_withdrawn_in_the_page(waiting, browser, run, stripe):
    """Each is a decision, to which the answer leads."""
    rule = {"kind": "user", "value": "user-1", "customer": "cus_9", "why": WHY}
    made = browser.send("/held/rules", **rule)
    run()

    assert made.headers["location"] == "/decisions?first=1&last=1"
    assert stripe.tally()["cus_9", "credits"] == 1000
    assert "user-1" in browser.get("/held/rules").text
    gone = browser.send("/held/rules/withdraw", kind="user", value="user-1", why="left")
    assert gone.headers["location"] == "/decisions?first=2&last=2"
    assert "There is no rule" in browser.get("/held/rules").text
    assert browser.send("/held/rules/withdraw", kind="user", value="user-1", why="left").status_code == 422
    assert len(browser.get("/held/traces.csv").text.splitlines()) == 1
    assert len(browser.get("/held/meter-events.csv").text.splitlines()) == 1
