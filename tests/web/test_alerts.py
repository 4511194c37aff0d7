"""What is wrong, over the API and in the metrics."""

import pytest

from tallymark.flows.alerts import alert
from web_callers import READER


@pytest.fixture
def wrong(put, run, settings, clock):
    """Three customers over their limit."""
    for number in range(3):
        put(f"t{number}", customer=f"cus_{number}")
    run(full=True)
    alert(settings(BILLING_ALERT_CUSTOMER_CREDITS="499.5"), clock)


def test_alerts_are_listed_in_pages(api, wrong):
    """Whole objects, exact; a cursor leads on."""
    first = api("GET", "/alerts", params={"limit": 2}).json()
    rest = api("GET", "/alerts", params={"cursor": first["next"]}).json()

    assert [one["subject"] for one in first["items"] + rest["items"]] == ["cus_0", "cus_1", "cus_2"]
    assert (rest["next"], rest["items"][0]) == (
        None,
        {
            "rule": "spend",
            "subject": "cus_2",
            "text": "customer cus_2 has used 500.000000 credits since 2026-11-01T00:00:00.000Z.",
            "value": "500.000000",
            "limit": "499.5",
            "unit": "credits",
            "began_at": "2026-11-23T12:00:00.000Z",
            "seen_at": "2026-11-23T12:00:00.000Z",
            "told_at": "2026-11-23T12:00:00.000Z",
        },
    )
    assert api("GET", "/alerts", params={"cursor": "\0"}).status_code == 422


def test_metrics_count_alerts_by_rule_and_name_nobody(wrong, connect):
    """The customers are in the API only."""
    told = connect().get("/metrics", headers={"Authorization": f"Bearer {READER}"}).text

    assert 'tallymark_alert{rule="spend"} 3.0' in told
    assert 'tallymark_alert{rule="lag"} 0.0' in told
    assert "cus_0" not in told


def test_the_first_page_says_what_is_wrong(wrong, browser):
    """With since when; nothing if nothing is."""
    told = " ".join(browser.get("/").text.split())

    assert "<strong>Something is wrong</strong>" in told
    assert "spend: customer cus_2 has used 500.000000 credits" in told
    assert "since 2026-11-23 12:00:00 UTC" in told


def test_the_first_page_says_nothing_where_nothing_is_wrong(put, run, browser):
    """No empty box."""
    put("t1")
    run(full=True)
    assert "Something is wrong" not in browser.get("/").text
