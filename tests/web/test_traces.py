"""Traces in API and dashboard: found by what people know of them, in pages, and explained number by number."""

import csv
import io

import pytest

from builders import NOW_US, PROJECT
from databases import DATABASES
from tallymark.core.clock import MINUTE_US
from tallymark.errors import ConfigError
from tallymark.flows.traces import Wanted, all_traces, traces
from tallymark.sandbox.langfuse import DEFAULT_PROJECT
from web_callers import READER


@pytest.fixture
def world(put, run, settings):
    """Seven traces of two customers, one of them nobody's, one of a name of its own, one without usage; all billed."""
    put("chat-1", minutes_ago=120)
    put("chat-2", minutes_ago=110, customer="cus_2", userId="user-2")
    put("a/b c", minutes_ago=100, name="agent")
    put("nobodys", minutes_ago=90, customer=None)
    put("idle", minutes_ago=80, cost="0", seconds=0, tokens=(0, 0))
    put("same-1", minutes_ago=70, name="<b>bold</b>")
    put("same-2", minutes_ago=70, name="cus_1")
    return run()


def ids(listing):
    """The traces of a page."""
    return [line["trace_id"] for line in listing.json()["items"]]


NEWEST_FIRST = ["same-1", "same-2", "idle", "nobodys", "a/b c", "chat-2", "chat-1"]


ANSWERS = [
    ({}, NEWEST_FIRST),
    ({"q": "chat-"}, ["chat-2", "chat-1"]),
    ({"q": "a/b c"}, ["a/b c"]),
    ({"q": "cus_2"}, ["chat-2"]),
    ({"q": "user-2"}, ["chat-2"]),
    ({"q": "agent"}, ["a/b c"]),
    ({"q": "cus_1"}, ["same-1", "same-2", "a/b c", "chat-1"]),
    ({"q": "cus_1", "by": "name"}, ["same-2"]),
    ({"q": "cus_1", "customer": "cus_2"}, []),
    ({"q": "hat-"}, []),
    ({"q": "%"}, []),
    ({"q": "chat-", "customer": "cus_1"}, ["chat-1"]),
    ({"customer": "cus_2"}, ["chat-2"]),
    ({"outcome": "held"}, ["nobodys"]),
    ({"outcome": "skipped", "reason": "no_billable_usage"}, ["idle"]),
    ({"outcome": "billed", "customer": "cus_2"}, ["chat-2"]),
    ({"reason": "no_customer"}, ["nobodys"]),
    ({"reason": "no_customer", "outcome": "billed"}, []),
    ({"reason": "nothing"}, []),
    ({"project": PROJECT, "q": "idle"}, ["idle"]),
    ({"project": "another"}, []),
    ({"from": "2026-11-23T10:20:00Z", "to": "2026-11-23T10:30:00Z"}, ["a/b c"]),
    ({"to": "2026-11-23"}, []),
    ({"q": "\0\ufffd"}, []),
]


def test_traces_are_found(world, api):
    """By what is searched for, as the first thing that it can be, and by every filter together with it."""
    for query, found in ANSWERS:
        assert ids(api("GET", "/traces", params=query)) == found, query


def test_a_list_comes_in_pages(world, api):
    """Of any size, each trace once and in order, also where two are of one moment; a cursor keeps to its search."""
    for limit in (1, 2, 3):
        cursor, seen = None, []
        while cursor is not None or not seen:
            found = api("GET", "/traces", params={"limit": limit, **({"cursor": cursor} if cursor else {})})
            seen += ids(found)
            if (cursor := found.json()["next"]) is None:
                break
        assert seen == NEWEST_FIRST

    cursor = api("GET", "/traces", params={"limit": 1}).json()["next"]
    assert api("GET", "/traces", params={"cursor": cursor, "q": "cus_1"}).status_code == 422


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"outcome": "lost"}, 422),
        ({"q": "x", "by": "prompt"}, 422),
        ({"from": "yesterday"}, 422),
        ({"from": "2026-13-45"}, 422),
        ({"from": "2026-11-02", "to": "2026-11-01"}, 422),
        ({"cursor": "x"}, 422),
        ({"cursor": "WyJ0cmFjZXNfYnlfdGltZSIsMSwicCJd"}, 422),
        ({"limit": "0"}, 400),
        ({"limit": "1001"}, 400),
    ],
)
def test_what_cannot_be_asked_is_refused(api, ledger, query, status):
    """With a sentence that says what to write instead."""
    answer = api("GET", "/traces", params=query)

    assert answer.status_code == status
    assert answer.json()["detail"]


def test_a_trace_is_explained(world, api):
    """Every number on its way to credits, the meter event with its answer, and the mark; a slash may be in its id."""
    found = api("GET", "/traces/a%2Fb%20c", token=READER).json()
    (trace,) = found["projects"]
    (entry,) = trace["entries"]

    assert (found["trace_id"], trace["outcome"], trace["customer"]) == ("a/b c", "billed", "cus_1")
    assert [(part["name"], float(part["credits"])) for part in trace["components"]] == [("ai", 250), ("compute", 250)]
    assert trace["worth"] == trace["billed"] == entry["credits"] == "500.000000"
    assert entry["meter_event"]["state"] == "accepted"
    assert [attempt["outcome"] for attempt in entry["meter_event"]["attempts"]] == ["accepted"]
    assert trace["mark"]["state"] == "written"
    assert found["policy"]["corrections"] == "carry"


def test_a_trace_that_nobody_knows(world, api, browser):
    """Is not found, and the answer says how to read it."""
    answer = api("GET", "/traces/never")

    assert (answer.status_code, "tallymark sync --trace never" in answer.json()["detail"]) == (404, True)
    assert browser.get("/traces/never").status_code == 404


def test_the_page_lists_and_leads_on(world, browser):
    """The form keeps what was asked, names are text and never markup, and each trace leads to its explanation."""
    everything = browser.get("/traces").text
    one = browser.get("/traces?q=cus_2&outcome=billed&from=2026-11-01").text

    assert "&lt;b&gt;bold&lt;/b&gt;" in everything and "<b>bold" not in everything
    assert 'href="/traces/a%2Fb%20c"' in everything
    assert 'value="cus_2"' in one and 'value="2026-11-01"' in one and '<option value="billed" selected>' in one
    assert "chat-2" in one and "chat-1" not in one
    assert "/traces.csv?q=cus_2&amp;outcome=billed&amp;from=2026-11-01" in one
    assert "No trace is like that" in browser.get("/traces?q=hat-").text
    assert browser.get("/traces?outcome=lost").status_code == 422


def test_the_page_explains_a_trace(world, browser, settings):
    """The formula with its numbers, the meter event with its answer, and the way to Langfuse."""
    text = browser.get("/traces/a%2Fb%20c").text

    for shown in ("250", "500.000000", "12 s", "accepted", "written", "cus_1", "the whole trace"):
        assert shown in text, shown
    base_url = settings().projects[0].base_url
    assert f'href="{base_url}/project/{DEFAULT_PROJECT.project_id}/traces/a%2Fb%20c"' in text
    assert "Waits for a decision: no customer" in browser.get("/traces/nobodys").text


def test_the_file_has_all_that_the_page_was_asked_for(world, browser):
    """With the same filters, however many pages that is; what cannot be asked is refused before it begins."""
    answer = browser.get("/traces.csv?q=cus_1")

    assert answer.headers["content-type"].startswith("text/csv")
    assert [row["trace_id"] for row in csv.DictReader(io.StringIO(answer.text))] == [
        "same-1",
        "same-2",
        "a/b c",
        "chat-1",
    ]
    assert browser.get("/traces.csv?from=never").status_code == 422


@pytest.mark.databases(*DATABASES)
def test_both_databases_find_the_same(world, ledger):
    """Every statement, page by page."""
    wanted = {
        "everything": (Wanted(), NEWEST_FIRST),
        "a customer": (Wanted(customer_id="cus_1"), ["same-1", "same-2", "a/b c", "chat-1"]),
        "a user": (Wanted(search="user-2"), ["chat-2"]),
        "a beginning": (Wanted(search="same"), ["same-1", "same-2"]),
        "a name": (Wanted(search="chat"), ["chat-2", "chat-1"]),
        "a name, said so": (Wanted(search="chat", meaning="name"), ["idle", "nobodys", "chat-2", "chat-1"]),
        "what is held": (Wanted(outcome="held"), ["nobodys"]),
        "a range": (Wanted(from_us=NOW_US - 80 * MINUTE_US, to_us=NOW_US - 70 * MINUTE_US), ["idle"]),
        "odd text": (Wanted(search="\0"), []),
    }
    for name, (one, found) in wanted.items():
        assert [line.trace_id for line in all_traces(ledger, one)] == found, name
        if len(found) > 1:
            first = traces(ledger, one, 1)
            assert traces(ledger, one, 1, first.next).items[0].trace_id == found[1], name
    with pytest.raises(ConfigError, match="no outcome"):
        traces(ledger, Wanted(outcome="lost"), 1)
