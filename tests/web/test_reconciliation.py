"""Reconciliations in API and dashboard: the sums of a day are those of the rows behind it, and those of the report."""

import csv
import io
from collections import Counter
from decimal import Decimal
from urllib.parse import quote

import pytest

from databases import DATABASES
from tallymark.flows.paging import write_cursor
from tallymark.flows.reconcile import reconcile
from tallymark.flows.reconciliations import compared, day_rows
from web_callers import READER

DAY_MINUTES = 24 * 60


@pytest.fixture
def report(put, run, settings, clock):
    """Two customers on three days, usage of nobody, and a trace that was not billed yet; then a reconciliation."""
    for number in range(6):
        put(f"t{number}", customer=f"cus_{number % 2}", minutes_ago=90 + number // 2 * DAY_MINUTES, cost="0.010001")
    put("nobodys", customer=None, minutes_ago=100)
    run()
    put("new", customer="cus_1", minutes_ago=200)
    return reconcile(settings(), clock=clock)[0]


def added(lines, name):
    """A column's sum."""
    return sum(Decimal(line[name] or 0) for line in lines)


def test_days_add_up_to_the_report(api, report):
    """Customer by customer, and cause by cause."""
    (listed,) = api("GET", "/reconciliations", token=READER).json()["items"]
    found = api("GET", f"/reconciliations/{report.run_id}").json()
    days = api("GET", f"/reconciliations/{report.run_id}/days").json()["items"]

    assert (listed["run_id"], listed["explained"], listed["total"]) == (report.run_id, True, found["total"])
    for name in ("langfuse", "entries", "accepted", "stripe"):
        assert added(days, name) == Decimal(found["total"][name])
        for line in found["customers"]:
            assert added([day for day in days if day["customer"] == line["customer"]], name) == Decimal(line[name])
    causes = Counter()
    for day in days:
        causes.update({cause: Decimal(credits) for cause, credits in day["differences"].items()})
    assert causes == {cause: Decimal(credits) for cause, credits in found["total"]["differences"].items()}
    assert {"unbilled", "held"} <= set(causes)


def test_days_come_in_pages(api, report):
    """Of all customers, of one, or of nobody."""
    path, seen, cursor = f"/reconciliations/{report.run_id}/days?limit=2", [], ""
    while cursor is not None:
        found = api("GET", path + (f"&cursor={cursor}" if cursor else "")).json()
        seen, cursor = seen + found["items"], found["next"]

    assert seen == api("GET", path.replace("limit=2", "limit=1000")).json()["items"]
    assert [day["day"] for day in api("GET", f"{path}0&customer=cus_0").json()["items"]] == [
        "2026-11-21",
        "2026-11-22",
        "2026-11-23",
    ]
    assert {day["customer"] for day in api("GET", f"{path}0&customer=").json()["items"]} == {""}


@pytest.mark.databases(*DATABASES)
def test_the_rows_of_a_day_come_to_its_sums(report, ledger, put, run):
    """As they stood then: what came later is left out."""
    before = {}
    for day in compared(ledger, report.run_id):
        rows = day_rows(ledger, report.run_id, day.customer, day.meter, day.day, 1000)
        assert rows.entries == day.entries == f"{sum(Decimal(each.credits) for each in rows.traces):.6f}"
        assert rows.accepted_now == day.accepted
        assert rows.lines == sum(trace.entries for trace in rows.traces)
        before[day.customer, day.day] = rows
    run(full=True)
    after = day_rows(ledger, report.run_id, "cus_1", "credits", "2026-11-23", 1000)

    assert after.traces == before["cus_1", "2026-11-23"].traces
    assert Decimal(after.accepted_now) > Decimal(before["cus_1", "2026-11-23"].accepted_now)


def test_traces_of_a_day_come_in_pages(api, put, run, settings, clock):
    """Each once."""
    for number in range(5):
        put(f"t{number}", minutes_ago=90 + number)
    run()
    run_id = reconcile(settings(), clock=clock)[0].run_id
    path = f"/reconciliations/{run_id}/rows?day=2026-11-23&meter=credits&customer=cus_1&limit=2"
    seen, cursor = [], ""
    while cursor is not None:
        found = api("GET", path + (f"&cursor={cursor}" if cursor else "")).json()
        seen, cursor = seen + [trace["trace_id"] for trace in found["traces"]], found["next"]

    assert seen == [f"t{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/reconciliations/never", 404),
        ("/reconciliations/never/days", 404),
        ("/reconciliations/RUN/rows?day=2026-11-23", 400),
        ("/reconciliations/RUN/rows?day=2026-11-23&meter=other&customer=cus_1", 404),
        ("/reconciliations/RUN/rows?day=yesterday&meter=credits&customer=cus_1", 404),
        ("/reconciliations/RUN/days?cursor=x", 422),
        ("/reconciliations?cursor=WyJhIiwiYiJd", 422),
        (f"/reconciliations?cursor={write_cursor(2**63 - 1, 'b')}", 200),
    ],
)
def test_what_is_not_there(api, report, path, status):
    """Is said."""
    assert api("GET", path.replace("RUN", report.run_id)).status_code == status


def test_pages_lead_from_the_list_to_the_rows(browser, report):
    """With the same sums on each, and files of them."""
    listed = browser.get("/reconciliation").text
    assert f'href="/reconciliation/{report.run_id}"' in listed and "explained" in listed

    one = browser.get(f"/reconciliation/{report.run_id}").text
    assert "every difference has a cause" in one and "unbilled" in one and "(nobody)" in one
    of_customer = browser.get(f"/reconciliation/{report.run_id}?customer=cus_1").text
    (line,) = [line for line in report.customers if line.customer == "cus_1"]
    shown = f"{Decimal(line.langfuse):,.6f}"
    assert of_customer.count(shown) == 1 and f"?customer={quote('cus_1')}" in one

    query = "day=2026-11-23&amp;meter=credits&amp;customer=cus_1"
    assert query in of_customer
    rows = browser.get(f"/reconciliation/{report.run_id}/rows?{query.replace('&amp;', '&')}").text
    assert "the sum of the traces below" in rows and "the sum of accepted meter events below" in rows

    days = list(csv.DictReader(io.StringIO(browser.get(f"/reconciliation/{report.run_id}/days.csv").text)))
    assert f"{added(days, 'langfuse'):.6f}" == report.total.langfuse
    file = browser.get(f"/reconciliation/{report.run_id}/rows.csv?{query.replace('&amp;', '&')}").text
    assert [row["trace_id"] for row in csv.DictReader(io.StringIO(file))] == ["t1"]
    assert browser.get("/reconciliation/never").status_code == 404
    assert "Ended" in browser.get("/reconciliation").text and "run_id" in browser.get("/reconciliation.csv").text


def test_nothing_was_reconciled_yet(browser, api):
    """The page says what to do."""
    assert "tallymark reconcile" in browser.get("/reconciliation").text
    assert api("GET", "/reconciliations").json() == {"items": [], "next": None}
