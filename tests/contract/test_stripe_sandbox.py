"""The sandbox's Stripe in process: keys, meters, meter events and customers as facts/stripe.md says."""

import base64
from decimal import Decimal

import pytest
from stripe_client import DAY_SECONDS, METER_EVENTS, NOW_SECONDS, make, message
from stripe_shapes import problems


@pytest.fixture
def client():
    return make()


# Keys and routes


@pytest.mark.parametrize(
    "authorization",
    ["Bearer sk_test_sandbox", "Basic " + base64.b64encode(b"sk_test_sandbox:").decode()],
)
def test_the_key_opens_as_bearer_and_as_basic(client, authorization):
    assert client.call("GET", "/v1/account", authorization=authorization)[0] == 200


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Digest x", "Basic !", "Basic " + "/w=="])
def test_no_readable_key_is_401(client, authorization):
    assert client.call("GET", "/v1/account", authorization=authorization)[0] == 401


def test_a_wrong_key_is_401_and_shown_by_its_end_only(client):
    status, content = client.call("GET", "/v1/account", authorization="Bearer sk_live_secret1234")
    assert status == 401
    assert content["error"]["message"].endswith("1234")
    assert "secret" not in content["error"]["message"]


def test_an_unknown_route_is_404_in_json(client):
    assert "GET: /v1/billing/meter_events" in message(client.get(METER_EVENTS))
    assert client.last.status == 404


def test_every_answer_has_a_request_id_of_its_own(client):
    client.send()
    first = client.last.headers["request-id"]
    client.send()
    assert client.last.headers["request-id"] != first


# Meters


def new_meter(client, event_name="tokens", **more):
    params = {"display_name": "Tokens", "event_name": event_name, "default_aggregation[formula]": "sum"}
    return client.call("POST", "/v1/billing/meters", params | more)


def test_a_meter_is_made_renamed_and_read(client):
    status, meter = new_meter(
        client, **{"customer_mapping[event_payload_key]": "who", "customer_mapping[type]": "by_id"}
    )
    assert status == 200
    assert meter["customer_mapping"]["event_payload_key"] == "who"
    client.call("POST", f"/v1/billing/meters/{meter['id']}", {"display_name": "New"})
    assert client.get(f"/v1/billing/meters/{meter['id']}")[1]["display_name"] == "New"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"colour": "red"}, "colour"),
        ({"event_time_window": "minute"}, "event_time_window"),
        ({"default_aggregation[formula]": "max"}, "formula"),
        ({"event_name": ""}, "event_name"),
    ],
)
def test_a_wrong_meter_is_refused_with_its_parameter(client, more, param):
    status, content = new_meter(client, **more)
    assert (status, content["error"]["param"]) == (400, param)


def test_one_event_name_belongs_to_one_meter_even_when_inactive(client):
    _, meter = new_meter(client)
    assert "already exists" in message(new_meter(client))
    client.call("POST", f"/v1/billing/meters/{meter['id']}/deactivate")
    assert "already exists" in message(new_meter(client))


def test_a_second_meter_of_one_event_name_can_be_planted(client):
    client.stripe.add_meter("credits")
    assert [row["event_name"] for row in client.get("/v1/billing/meters")[1]["data"]] == ["credits", "credits"]


def test_an_inactive_meter_takes_no_meter_events_until_it_is_active_again(client):
    meter = client.get("/v1/billing/meters")[1]["data"][0]
    _, off = client.call("POST", f"/v1/billing/meters/{meter['id']}/deactivate")
    assert (off["status"], off["status_transitions"]["deactivated_at"]) == ("inactive", NOW_SECONDS)
    assert message(client.send()) == 'No active meter found for event name "credits".'
    client.call("POST", f"/v1/billing/meters/{meter['id']}/reactivate")
    assert client.send()[0] == 200


def test_meters_are_listed_by_pages_and_status():
    client = make()
    for number in range(24):
        client.stripe.add_meter(f"meter{number}", active=number % 2 == 0)
    names, after = [], {}
    while True:
        _, page = client.get("/v1/billing/meters", **after)
        names += [row["event_name"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = {"starting_after": page["data"][-1]["id"]}
    assert names == [f"meter{number}" for number in reversed(range(24))] + ["credits"]
    _, inactive = client.get("/v1/billing/meters", limit="12", status="inactive")
    assert (len(inactive["data"]), inactive["has_more"]) == (12, False)


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "101"}, {"starting_after": "nobody"}, {"status": "old"}])
def test_a_wrong_page_is_refused(client, params):
    assert client.get("/v1/billing/meters", **params)[0] == 400


def test_a_page_before(client):
    client.stripe.add_meter("second")
    client.stripe.add_meter("third")
    rows = client.get("/v1/billing/meters")[1]["data"]
    _, page = client.get("/v1/billing/meters", ending_before=rows[2]["id"], limit="1")
    assert ([row["id"] for row in page["data"]], page["has_more"]) == ([rows[1]["id"]], True)


def test_a_missing_meter_is_404(client):
    status, content = client.get("/v1/billing/meters/mtr_nobody")
    assert (status, content["error"]["code"]) == (404, "resource_missing")


# Meter events


def test_a_meter_event_is_answered_and_counted(client):
    status, content = client.send("one", "5")
    assert status == 200
    assert content["payload"] == {"stripe_customer_id": "cus_1", "value": "5"}
    assert (content["identifier"], content["timestamp"], content["created"]) == ("one", NOW_SECONDS, NOW_SECONDS)
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


def test_identifier_and_timestamp_are_made_when_absent(client):
    params = {"event_name": "credits", "payload[stripe_customer_id]": "cus_1", "payload[value]": "1"}
    identifiers = {client.call("POST", METER_EVENTS, params)[1]["identifier"] for _ in range(3)}
    assert len(identifiers) == 3
    assert client.stripe.tally() == {("cus_1", "credits"): 3}
    assert client.stripe.meter_events()[0].timestamp_seconds == NOW_SECONDS


def test_a_duplicate_is_400_without_code_and_says_do_not_retry(client):
    client.send("one", "5")
    status, content = client.send("one", "7", customer="cus_2")
    assert (status, content["error"]["message"]) == (400, "An event already exists with identifier one.")
    assert "code" not in content["error"]
    assert client.last.headers["stripe-should-retry"] == "false"
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


def test_after_the_window_the_same_identifier_counts_again(client):
    """Stripe promises "at least 24 hours"; the sandbox takes the worst reading of it."""
    client.send("one", "5")
    client.clock.advance(24 * 3600 - 1)
    assert client.send("one", "5")[0] == 400
    client.clock.advance(1)
    assert client.send("one", "5")[0] == 200
    assert client.stripe.tally() == {("cus_1", "credits"): 10}


@pytest.mark.parametrize("value", ["0", "5", "-5", "0.25", "-12.5", "999999999999999", "0.000000000000001"])
def test_whole_and_decimal_digits_are_values(client, value):
    assert client.send(value=value)[0] == 200
    assert client.stripe.tally() == {("cus_1", "credits"): Decimal(value)}


@pytest.mark.parametrize("value", ["", "x", "1e3", "1e-05", "+5", ".5", "5.", "1,000", "0x10", "٣", " 5", "NaN"])
def test_other_texts_are_no_values(client, value):
    assert client.send(value=value)[0] == 400
    assert client.stripe.meter_events() == []


@pytest.mark.parametrize("value", ["1000000000000000", "0.1234567890123456", "-1234567890.123456"])
def test_more_than_15_digits_are_refused(client, value):
    expected = f"The value in the event payload can have at most 15 digits. Received `{value}`."
    assert message(client.send(value=value)) == expected


def test_35_days_back_and_5_minutes_ahead_are_the_bounds(client):
    oldest, newest = NOW_SECONDS - 35 * DAY_SECONDS, NOW_SECONDS + 300
    assert client.send("a", timestamp=oldest)[0] == 200
    assert client.send("b", timestamp=newest)[0] == 200
    assert message(client.send("c", timestamp=oldest - 1)) == (
        "The event timestamp cannot be more than 35 days in past. "
        f"Expected a timestamp greater than or equal to {oldest}."
    )
    assert "5 minutes in the future" in message(client.send("d", timestamp=newest + 1))


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"colour": "red"}, "colour"),
        ({"event_name": None}, "event_name"),
        ({"event_name": "x" * 101}, "event_name"),
        ({"identifier": "x" * 101}, "identifier"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "1.5"}, "timestamp"),
        ({"payload[value]": None}, "payload"),
        ({"payload[stripe_customer_id]": None}, "payload"),
        ({"payload[note]": "x" * 101}, "payload"),
        ({"payload[note][deep]": "x"}, "payload"),
        ({"payload[value]": None, "payload[stripe_customer_id]": None}, "payload"),
        ({"payload[value]": None, "payload[stripe_customer_id]": None, "payload": "text"}, "payload"),
        ({"event_name": "unheard"}, "event_name"),
    ],
)
def test_a_wrong_meter_event_is_refused_with_its_parameter(client, params, param):
    good = {"event_name": "credits", "payload[stripe_customer_id]": "cus_1", "payload[value]": "1"}
    sent = {name: value for name, value in (good | params).items() if value is not None}
    status, content = client.call("POST", METER_EVENTS, sent)
    assert (status, content["error"]["param"]) == (400, param)
    assert client.stripe.meter_events() == []


def test_other_payload_keys_are_kept(client):
    params = {"event_name": "credits", "payload[stripe_customer_id]": "cus_1", "payload[value]": "1"}
    _, content = client.call("POST", METER_EVENTS, params | {"payload[trace_id]": "tr-é/1", "expand[]": "x"})
    assert content["payload"]["trace_id"] == "tr-é/1"


def test_a_meter_has_payload_keys_of_its_own(client):
    client.stripe.add_meter("tokens", customer_key="who", value_key="amount")
    params = {"event_name": "tokens", "payload[who]": "cus_9", "payload[amount]": "3"}
    assert client.call("POST", METER_EVENTS, params)[0] == 200
    assert client.stripe.tally() == {("cus_9", "tokens"): 3}


# Customers


def test_an_unknown_customer_is_accepted_and_rejected_later():
    client = make(any_customer=False)
    client.stripe.add_customer("cus_1")
    assert client.send("one", "5")[0] == 200
    assert client.send("two", "7", customer="cus_gone")[0] == 200
    assert client.stripe.tally() == {("cus_1", "credits"): 5, ("cus_gone", "credits"): 0}
    assert [one.identifier for one in client.stripe.rejected_later()] == ["two"]


def test_an_unknown_customer_can_be_refused_at_once():
    client = make(any_customer=False, unknown_customer="sync")
    assert message(client.send(customer="cus_gone")) == "No such customer: 'cus_gone'"
    assert client.stripe.meter_events() == []


def test_customers_are_made_listed_and_read():
    client = make(any_customer=False)
    _, customer = client.call("POST", "/v1/customers", {"name": "Ada", "email": "ada@example.com"})
    assert client.get(f"/v1/customers/{customer['id']}")[1]["name"] == "Ada"
    assert [row["id"] for row in client.get("/v1/customers")[1]["data"]] == [customer["id"]]
    assert client.get("/v1/customers/cus_gone")[0] == 404
    assert client.send(customer=customer["id"])[0] == 200


def test_any_customer_exists_by_default(client):
    assert client.get("/v1/customers/cus_whoever")[1]["id"] == "cus_whoever"


def test_the_shape_checker_sees_what_is_wrong():
    """The checker itself can fail."""
    good = {"object": "billing.meter_event", "created": 1, "event_name": "c", "identifier": "i", "livemode": False}
    good |= {"payload": {"a": "b"}, "timestamp": 1}
    route = "POST /v1/billing/meter_events"
    assert problems(route, good) == []
    wrong = [
        {"created": "1"},
        {"livemode": 1},
        {"payload": {"a": 1}},
        {"object": "event"},
        {"id": "x"},
        {"timestamp": None},
    ]
    assert all(problems(route, good | change) for change in wrong)
    assert problems(route, {name: value for name, value in good.items() if name != "timestamp"})
