"""Customers and usage in API and dashboard: exact sums against the time before, in an order, in pages, and as files."""

import csv
import io
import sys
from decimal import Decimal

import pytest

from builders import NOW_US, PROJECT
from tallymark import api as library
from tallymark.core.clock import DAY_US, format_time
from web_callers import READER

MINUTES_OF_DAY = 24 * 60
OLD_DAYS = 33
DAY = format_time(NOW_US - DAY_US)[:10]


@pytest.fixture
def world(put, run):
    """Three customers, one of whom has stopped; two flows, two days."""
    put("a1", customer="cus_a", minutes_ago=90, cost="0.02")
    put("a2", customer="cus_a", minutes_ago=MINUTES_OF_DAY, name="agent")
    put("a3", customer="cus_a", minutes_ago=OLD_DAYS * MINUTES_OF_DAY, cost="0.03", seconds=0)
    put("b1", customer="cus_b", minutes_ago=80)
    put("old", customer="cus_old", minutes_ago=OLD_DAYS * MINUTES_OF_DAY)
    return run(from_us=NOW_US - 40 * DAY_US)


def names(answer):
    """The customers of a page."""
    return [line["customer"] for line in answer.json()["items"]]


def rows_of(answer):
    """A CSV file as rows by their columns."""
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_customers_are_compared_with_the_time_before(api, world):
    """By credits, cost, revenue and margin, to the last decimal; who used nothing now is there if he did before."""
    found = {line["customer"]: line for line in api("GET", "/customers").json()["items"]}

    assert set(found) == {"cus_a", "cus_b", "cus_old"}
    assert found["cus_a"] == {
        "customer": "cus_a",
        "traces": 2,
        "credits": "1250.000000",
        "cost_usd": "0.03",
        "revenue_usd": "0.05",
        "margin_usd": "0.02",
        "credits_before": "750.000000",
        "change": "500.000000",
    }
    assert (found["cus_old"]["traces"], found["cus_old"]["change"]) == (0, "-500.000000")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["cus_a", "cus_b", "cus_old"]),
        ("order=desc", ["cus_old", "cus_b", "cus_a"]),
        ("sort=credits", ["cus_a", "cus_b", "cus_old"]),
        ("sort=margin&order=asc", ["cus_old", "cus_b", "cus_a"]),
        ("sort=change", ["cus_a", "cus_b", "cus_old"]),
        ("q=cus_o", ["cus_old"]),
        ("q=us_", []),
        ("from=2026-11-23&sort=cost", ["cus_a", "cus_b"]),
    ],
)
def test_customers_come_in_an_order_and_in_pages(api, world, query, expected):
    """Page by page they are the same as at once, also where two are equal."""
    assert names(api("GET", f"/customers?{query}", token=READER)) == expected

    paged, cursor = [], ""
    while cursor is not None:
        answer = api("GET", f"/customers?{query}&limit=1" + (f"&cursor={cursor}" if cursor else ""))
        paged, cursor = paged + names(answer), answer.json()["next"]
    assert paged == expected


@pytest.mark.parametrize(
    "path",
    [
        "/customers?sort=nothing",
        "/customers?order=up",
        "/customers?cursor=x",
        "/customers?cursor=WyJOYU4iLCJhIl0",
        "/customers?from=yesterday",
        "/customers?from=2026-11-20&to=2026-11-10",
        "/customers/cus_a/usage-events?cursor=WzEsMl0",
        "/usage?by=cost",
        "/usage?format=xml",
        "/close?period=november",
        "/close?from=2026-11-01",
    ],
)
def test_what_cannot_be_asked_is_refused(api, ledger, path):
    """With a sentence."""
    answer = api("GET", path)

    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_one_customer_stands_somewhere(api, world):
    """What Stripe counts, the carry, what is held; nobody else is known."""
    found = api("GET", "/customers/cus_a?from=2026-11-01").json()

    assert found["usage"]["credits"] == "1250.000000"
    assert found["meters"] == [
        {"meter": "credits", "accepted": "2000.000000", "unsent": "0.000000", "open": {}, "carry": "0.000000"}
    ]
    assert found["held"] == [] and found["billing_period"] is None
    assert api("GET", "/customers/nobody").status_code == 404


def test_what_waits_of_a_customer_is_told(api, browser, put, run, settings, langfuse):
    """Such as a billed trace that is gone."""
    to = settings(BILLING_DELETED_TRACES="hold")
    put("gone", customer="cus_a", minutes_ago=120)
    run(to)
    langfuse.delete_trace(PROJECT, "gone")
    run(to, full=True)

    assert api("GET", "/customers/cus_a").json()["held"] == [
        {"kind": "trace", "reason": "deleted", "waiting": 1, "credits": "500.000000"}
    ]
    assert "Waits for a person" in browser.get("/customers/cus_a").text


def test_an_application_shows_the_period_to_date(api, world, settings):
    """As `tallymark.client` says it, and by day; a customer who has not begun has used nothing."""
    found = api("GET", "/customers/cus_a/usage").json()

    assert (found["from"], found["credits"], found["traces"]) == ("2026-11-01T00:00:00.000Z", "1250.000000", 2)
    assert [part["component"] for part in found["components"]] == ["ai", "compute"]
    assert [(day["day"], day["credits"]) for day in found["days"]] == [
        (DAY, "500.000000"),
        ("2026-11-23", "750.000000"),
    ]
    assert sum(Decimal(part["credits"]) for part in found["models"]) == Decimal(found["credits"])
    assert found["read_up_to"] and found["updated_at"]
    assert api("GET", "/customers/nobody/usage").json()["credits"] == "0.000000"


def test_billed_traces_come_in_pages(api, world):
    """The newest first, each once."""
    path = "/customers/cus_a/usage-events?from=2026-10-01&limit=1"
    seen, cursor = [], ""
    while cursor is not None:
        answer = api("GET", path + (f"&cursor={cursor}" if cursor else "")).json()
        seen, cursor = seen + [event["trace_id"] for event in answer["items"]], answer["next"]

    assert seen == ["a1", "a2", "a3"]


def test_usage_is_the_same_as_json_csv_and_by_the_command(api, world, settings):
    """By `format` or by what is accepted; a reader may have it."""
    for by in ("customer", "day", "model", "flow"):
        rows = api("GET", f"/usage?by={by}", token=READER).json()["rows"]
        as_file = api("GET", f"/usage?by={by}&format=csv")
        assert rows == library.usage(settings(), by=by, from_us=NOW_US - 30 * DAY_US, to_us=NOW_US)
        assert [{**row, "traces": int(row["traces"])} for row in rows_of(as_file)] == rows
        assert as_file.headers["content-type"].startswith("text/csv")
    assert [row["key"] for row in api("GET", "/usage?by=flow&customer=cus_a").json()["rows"]] == ["agent", "chat"]


def test_parquet_is_written_where_it_can_be(api, world, monkeypatch):
    """Else the answer says what to install."""
    pyarrow = pytest.importorskip("pyarrow")
    answer = api("GET", "/usage?format=parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    assert sum(table["credits"].to_pylist()) == Decimal(1750)

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = api("GET", "/usage?format=parquet")
    assert (refused.status_code, "tallymark[bulk]" in refused.json()["detail"]) == (422, True)


def test_a_period_is_closed_by_a_checklist(api, world):
    """The lines of `tallymark close`; the last month unless another is named."""
    last = api("GET", "/close").json()
    now = api("GET", "/close?period=2026-11&customer=cus_a").json()

    assert (last["from"], last["passed"]) == ("2026-10-01T00:00:00.000Z", False)
    assert now["customer"] == "cus_a" and {check["check"] for check in now["checks"]} >= {"read", "open", "drift"}


# ---- pages


def test_the_page_of_customers_says_the_same_as_the_api(browser, world):
    """Sums under the columns, a link to turn the order, and a file with all rows."""
    text = browser.get("/customers").text

    assert text.index("cus_a") < text.index("cus_b")
    for told in ("1,750.000000", "cus_old", "−500.000000", 'aria-sort="descending"', "sort=revenue&amp;order=asc"):
        assert told in text
    assert browser.get("/customers?sort=margin&order=asc").text.index("cus_b</a>") > 0
    rows = rows_of(browser.get("/customers.csv?sort=customer&q=cus_b"))
    assert [(row["customer"], row["credits"]) for row in rows] == [("cus_b", "500.000000")]
    assert browser.get("/customers?sort=nothing").status_code == 422


@pytest.mark.parametrize(
    ("by", "told"), [("day", "2026-11-23"), ("model", "(not known)"), ("flow", "agent"), ("x", DAY)]
)
def test_usage_by_something_is_a_page_and_a_file(browser, world, by, told):
    """With its sum; what nobody adds up by is by day."""
    page, file = browser.get(f"/usage?by={by}"), browser.get(f"/usage.csv?by={by}")

    assert told in page.text and "1,750.000000" in page.text
    assert sum(Decimal(row["credits"]) for row in rows_of(file)) == 1750


def test_the_page_of_a_customer_leads_to_traces_and_files(browser, world):
    """Its sums are those of the billing period, or of the period that is asked for."""
    text = browser.get("/customers/cus_a").text

    assert "1,250.000000" in text and "/traces?customer=cus_a" in text and "accepted" in text
    assert "2,000.000000" in browser.get("/customers/cus_a?from=2026-10-01").text
    traces = rows_of(browser.get("/usage-events.csv?customer=cus_a&period=billing"))
    assert [(row["trace_id"], row["ai"], row["compute"]) for row in traces] == [
        ("a1", "500.000000", "250.000000"),
        ("a2", "250.000000", "250.000000"),
    ]
    days = rows_of(browser.get("/usage.csv?by=day&customer=cus_a&period=billing"))
    assert [row["key"] for row in days] == [DAY, "2026-11-23"]
    assert browser.get("/customers/nobody").status_code == 404


def test_names_of_customers_are_text(browser, put, run):
    """Whatever they hold, in a page and in a link."""
    put("x", customer="<b>/ä?&")
    run()

    text = browser.get("/customers").text

    assert "<b>/ä" not in text and "/customers/%3Cb%3E%2F%C3%A4%3F%26" in text
    assert "Customer &lt;b&gt;/ä?&amp;" in browser.get("/customers/%3Cb%3E%2F%C3%A4%3F%26").text
