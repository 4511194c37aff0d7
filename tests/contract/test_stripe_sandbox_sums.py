"""The sandbox's Stripe in process: adjustments, summaries, the tally and the log (facts/stripe.md sections 3, 4)."""

import json

import pytest
from stripe_client import DAY_SECONDS, NOW_SECONDS, make

from tallymark.core.clock import HOUR_US, SECOND_US
from tallymark.sandbox.wire import Request


@pytest.fixture
def client():
    return make()


# Adjustments


def cancel(client, identifier="one", **more):
    params = {"event_name": "credits", "type": "cancel", "cancel[identifier]": identifier} | more
    return client.call("POST", "/v1/billing/meter_event_adjustments", params)


def test_a_cancelled_meter_event_is_not_counted_and_stays_known(client):
    client.send("one", "5")
    client.send("two", "7")
    assert cancel(client)[0] == 200
    assert client.stripe.tally() == {("cus_1", "credits"): 7}
    assert client.send("one", "5")[0] == 400


def test_only_24_hours_of_receipt_and_known_identifiers_can_be_cancelled(client):
    client.send("one")
    assert cancel(client, "unknown")[0] == 400
    assert cancel(client, event_name="tokens")[0] == 400
    assert cancel(client, type="undo")[0] == 400
    client.clock.advance(24 * 3600 + 1)
    assert cancel(client)[0] == 400
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


# Summaries and the tally


def summaries(client, start, end, customer="cus_1", **more):
    meter_id = client.stripe.meter_events()[0].meter_id
    params = {"customer": customer, "start_time": start, "end_time": end} | more
    return client.call("GET", f"/v1/billing/meters/{meter_id}/event_summaries", params)


def test_one_summary_for_a_range_whose_end_is_outside(client):
    for identifier, value, back in (("a", "1", 7200), ("b", "2", 3600), ("c", "4", 0)):
        client.send(identifier, value, timestamp=NOW_SECONDS - back)
    client.send("d", "8", customer="cus_2", timestamp=NOW_SECONDS - 3600)
    [row] = summaries(client, NOW_SECONDS - 7200, NOW_SECONDS)[1]["data"]
    assert (row["aggregated_value"], row["start_time"]) == (3.0, NOW_SECONDS - 7200)
    assert isinstance(row["aggregated_value"], float)
    [nothing] = summaries(client, NOW_SECONDS - 60, NOW_SECONDS)[1]["data"]
    assert nothing["aggregated_value"] == 0


def test_hours_come_in_pages_of_ten_which_add_up(client):
    start = NOW_SECONDS - 30 * 3600
    for hour in range(25):
        client.send(f"h{hour}", "1", timestamp=start + hour * 3600 + 59)
    total, pages, after = 0, 0, {}
    while True:
        _, page = summaries(client, start, NOW_SECONDS, value_grouping_window="hour", **after)
        total, pages = total + sum(row["aggregated_value"] for row in page["data"]), pages + 1
        if not page["has_more"]:
            break
        after = {"starting_after": page["data"][-1]["id"]}
    assert (total, pages) == (25, 3)


def test_a_pre_aggregated_meter_sums_the_last_of_each_of_its_windows(serving_stripe):
    """What is received last counts, whenever it is dated inside its window."""
    account = serving_stripe()
    meter = account.sandbox.add_meter("totals", window="hour")
    start = NOW_SECONDS - 2 * 3600
    for identifier, value, seconds in (("a", "1", 3599), ("b", "4", 5), ("c", "2", 3600)):
        account.send(identifier, value, timestamp=start + seconds, event_name="totals")

    def values(**grouping):
        asked = {"customer": "cus_1", "start_time": start, "end_time": NOW_SECONDS, **grouping}
        return [row.aggregated_value for row in account.client.v1.billing.meters.event_summaries.list(meter.id, asked)]

    assert values(value_grouping_window="hour") == [2, 4]
    assert values() == [6]


def test_days_are_utc_days(client):
    midnight = NOW_SECONDS // DAY_SECONDS * DAY_SECONDS
    client.send("a", "1", timestamp=midnight - 1)
    client.send("b", "2", timestamp=midnight)
    _, page = summaries(client, midnight - DAY_SECONDS, midnight + DAY_SECONDS, value_grouping_window="day")
    assert [(row["start_time"], row["aggregated_value"]) for row in page["data"]] == [
        (midnight, 2.0),
        (midnight - DAY_SECONDS, 1.0),
    ]


@pytest.mark.parametrize(
    ("start", "end", "more", "param"),
    [
        (NOW_SECONDS - 59, NOW_SECONDS, {}, "start_time"),
        (NOW_SECONDS - 60, NOW_SECONDS, {"value_grouping_window": "hour"}, "start_time"),
        (NOW_SECONDS - 3600, NOW_SECONDS, {"value_grouping_window": "day"}, "start_time"),
        (NOW_SECONDS, NOW_SECONDS, {}, "end_time"),
        (NOW_SECONDS, NOW_SECONDS + 60, {"value_grouping_window": "minute"}, "value_grouping_window"),
        (NOW_SECONDS, NOW_SECONDS + 60, {"limit": "500"}, "limit"),
        ("soon", NOW_SECONDS, {}, "start_time"),
    ],
)
def test_misaligned_summaries_are_refused(client, start, end, more, param):
    client.send()
    status, content = summaries(client, start, end, **more)
    assert (status, content["error"]["param"]) == (400, param)


def test_summaries_lag_behind():
    client = make(summary_lag_seconds=90)
    client.send(timestamp=NOW_SECONDS - 60)
    asked = (NOW_SECONDS - 3600, NOW_SECONDS)
    assert summaries(client, *asked)[1]["data"][0]["aggregated_value"] == 0
    client.clock.advance(90)
    assert summaries(client, *asked)[1]["data"][0]["aggregated_value"] == 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"formula": "sum"}, 7),
        ({"formula": "count"}, 3),
        ({"formula": "last"}, 2),
        ({"formula": "sum", "window": "hour"}, 6),
        ({"formula": "sum", "window": "day"}, 4),
    ],
)
def test_a_meter_counts_by_its_formula_and_its_time_window(client, options, expected):
    """With a window only the last one received of each UTC hour or day counts."""
    client.stripe.add_meter("other", **options)
    noon = NOW_SECONDS // DAY_SECONDS * DAY_SECONDS - DAY_SECONDS // 2
    for identifier, value, timestamp in (("a", "1", noon), ("b", "2", noon + 3600), ("c", "4", noon + 60)):
        client.send(identifier, value, event_name="other", timestamp=timestamp)
    assert client.stripe.tally() == {("cus_1", "other"): expected}


def test_the_tally_by_hour_adds_up_to_the_tally(client):
    for number in range(6):
        client.send(f"i{number}", str(number), timestamp=NOW_SECONDS - number * 1800)
    hours = client.stripe.tally_by_hour()
    assert hours["cus_1", "credits", NOW_SECONDS * SECOND_US - HOUR_US] == 1 + 2
    assert sum(hours.values()) == client.stripe.tally()["cus_1", "credits"] == 15


# The log and the sandbox's own routes


def test_requests_are_counted_by_route_and_hold_no_secret(client):
    client.send("one", idempotency_key="k1")
    client.send("one", "x")
    client.get("/v1/billing/meters/mtr_nobody")
    client.get("/v1/nothing")
    assert client.stripe.counts() == {
        "POST /v1/billing/meter_events": 2,
        "GET /v1/billing/meters/{id}": 1,
        "GET (unknown)": 1,
    }
    assert [one.status for one in client.stripe.requests()] == [200, 400, 404, 404]
    assert "sk_test" not in repr(client.stripe.requests())
    client.stripe.clear_requests()
    assert (client.stripe.counts(), client.stripe.requests()) == ({}, [])
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


def test_the_sandbox_routes_need_no_key_and_are_not_logged(client):
    client.send("one", "0.5")

    def look(name):
        answer = client.stripe.handle(Request("GET", f"/sandbox/{name}"))
        assert answer.status == 200
        return json.loads(answer.body)

    assert look("tally") == [{"customer": "cus_1", "event_name": "credits", "value": "0.5"}]
    assert look("requests")["counts"] == {"POST /v1/billing/meter_events": 1}
    assert look("meter_events")[0]["identifier"] == "one"
