"""Meter events in API and dashboard: filtered, in pages, and one of them with numbers that add up."""

import csv
import io
from decimal import Decimal

import pytest

from builders import PROJECT
from databases import DATABASES
from tallymark.core.ids import issue_of


@pytest.fixture
def world(put, run):
    """Four buckets of two customers: one of two traces that leaves a carry, one worth less than a credit."""
    put("t1", minutes_ago=60, cost="0.0100137")
    put("t2", minutes_ago=59, cost="0.0000011", seconds=0)
    put("t3", minutes_ago=200)
    put("tiny", minutes_ago=60, customer="cus_2", cost="0.00001", seconds=0)
    put("t4", minutes_ago=400, customer="cus_2")
    return run()


ANSWERS = {
    "": ["cus_1 11", "cus_2 11", "cus_1 08", "cus_2 05"],
    "?state=accepted": ["cus_1 11", "cus_1 08", "cus_2 05"],
    "?state=carried": ["cus_2 11"],
    "?state=in_doubt": [],
    "?customer=cus_2": ["cus_2 11", "cus_2 05"],
    "?customer=cus_2&state=accepted&meter=credits": ["cus_2 05"],
    "?meter=other": [],
    "?from=2026-11-23T08:00:00Z&to=2026-11-23T10:00:00Z": ["cus_1 08"],
}


@pytest.mark.databases(*DATABASES)
def test_meter_events_are_filtered_and_come_in_pages(api, world):
    """The newest usage first; pages of one give the same."""
    for asked, found in ANSWERS.items():
        whole, paged, cursor = told(api("GET", f"/meter-events{asked}").json()), [], ""
        while cursor is not None:
            query = f"{asked}{'&' if asked else '?'}limit=1{cursor and '&cursor=' + cursor}"
            page = api("GET", f"/meter-events{query}").json()
            paged += told(page)
            cursor = page["next"]

        assert sorted(whole) == sorted(found), asked
        assert [line[6:] for line in whole] == [line[6:] for line in found]
        assert paged == whole


def told(page):
    """Customer and hour of each meter event of a page."""
    return [f"{one['customer']} {one['bucket_from'][11:13]}" for one in page["items"]]


@pytest.mark.databases(*DATABASES)
def test_one_meter_event_adds_up(api, world, stripe):
    """Traces are the bucket; bucket and carries are what Stripe counted; each send has its answer."""
    for line in api("GET", "/meter-events").json()["items"]:
        one = api("GET", f"/meter-events/{line['identifier']}").json()
        assert {name: one[name] for name in line} == line
        bucket = Decimal(one["bucket_credits"])
        assert sum(Decimal(trace["credits"]) for trace in one["traces"]) == bucket
        assert bucket + Decimal(one["carry_before"]) - Decimal(one["carry_after"]) == one["credits"]
        assert one["trace_count"] == len(one["traces"]) > 0
        sent = one["state"] == "accepted"
        assert [send["outcome"] for send in one["sends"]] == (["accepted"] if sent else [])
        assert not sent or one["payload"]["value"] == str(one["credits"])
        assert one["attempts"] == len(one["sends"])
        assert api("GET", f"/runs/{one['run_id']}").json()["kind"] == "sync"
        assert issue_of(one["sent_as"])[0] == one["identifier"]
        assert api("GET", f"/meter-events/{one['identifier']}.3").json() == one
    assert one["traces"][0]["project_id"] == PROJECT


def test_what_is_not_there_is_said(api, ledger):
    """Nothing of it is a mistake of the server."""
    for query in ("state=none", "customer=a%00b", "from=x", "cursor=x", "from=2026-11-02&to=2026-11-01"):
        assert api("GET", f"/meter-events?{query}").status_code == 422
    for name in ("none", "a%00b", "%2e", "tm-x.1"):
        assert api("GET", f"/meter-events/{name}").status_code == 404


def test_the_pages_show_it_and_the_files_have_all(browser, world):
    """A file's numbers are plain; the page's sum is in words; filters stay in the link to the file."""
    shown = browser.get("/meter-events?customer=cus_1").text
    assert 'href="/meter-events.csv?customer=cus_1"' in shown
    rows = list(csv.DictReader(io.StringIO(browser.get("/meter-events.csv?customer=cus_1").text)))
    assert [row["customer"] for row in rows] == ["cus_1", "cus_1"]
    one = browser.get(f"/meter-events/{rows[0]['identifier']}").text
    assert f"{rows[0]['bucket_credits']} + 0" in one.replace(",", "")
    parts = list(csv.DictReader(io.StringIO(browser.get(f"/meter-events/{rows[0]['identifier']}/traces.csv").text)))
    assert [part["trace_id"] for part in parts] == ["t1", "t2"]
    assert sum(Decimal(part["credits"]) for part in parts) == Decimal(rows[0]["bucket_credits"])
    assert browser.get("/meter-events.csv?state=none").status_code == 422
    assert browser.get("/meter-events/none").status_code == 404
