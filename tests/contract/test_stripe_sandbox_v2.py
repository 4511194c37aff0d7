"""The sandbox's Stripe in process: v2 meter events, and the stream with its sessions (facts/stripe.md section 5)."""

import pytest
from stripe_client import NOW_SECONDS, make

from tallymark.core.clock import SECOND_US, format_time

V2 = "/v2/billing/meter_events"
SESSION = "/v2/billing/meter_event_session"
STREAM = "/v2/billing/meter_event_stream"
CREDITS = ("cus_1", "credits")


@pytest.fixture
def client():
    return make()


def event(identifier="one", value="5", customer="cus_1", event_name="credits", seconds=0, **changes):
    """A meter event as JSON, so many seconds from now."""
    payload = {"stripe_customer_id": customer, "value": value}
    at = format_time((NOW_SECONDS + seconds) * SECOND_US)
    return {"event_name": event_name, "identifier": identifier, "timestamp": at, "payload": payload, **changes}


def opened(client):
    """The header that a new session gives."""
    return {"authorization": f"Bearer {client.post_json(SESSION, {})[1]['authentication_token']}"}


def stream(client, *events, **headers):
    return client.post_json(STREAM, {"events": list(events)}, **(headers or opened(client)))


def code(answer):
    return answer[0], answer[1]["error"]["code"]


# v2


def test_v2_counts_like_v1_and_knows_its_identifiers(client):
    """Both APIs are one account: the same sums, and one memory of identifiers; its answer has the shape of v2."""
    status, taken = client.post_json(V2, event())

    assert (status, taken["object"], taken["timestamp"]) == (200, "v2.billing.meter_event", "2026-11-18T12:00:00.000Z")
    assert client.send("one")[0] == 400
    assert client.stripe.tally() == {CREDITS: 5}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (event("taken"), "duplicate_meter_event"),
        (event(event_name="nowhere"), "no_meter"),
        (event(event_name="closed"), "archived_meter"),
        (event(value="five"), "payload_invalid_value"),
        (event(value="1" * 16), "payload_invalid_value"),
        (event(payload={"value": "5"}), "payload_no_customer_defined"),
        (event(payload={"stripe_customer_id": "cus_1"}), "payload_no_value_defined"),
        (event(payload={"stripe_customer_id": "cus_1", "value": 5}), "invalid_fields"),
        (event(seconds=-36 * 86400), "invalid_fields"),
        (event(timestamp=str(NOW_SECONDS)), "invalid_fields"),
        (b"{", "invalid_fields"),
    ],
)
def test_v2_refuses_by_code(client, wanted, expected):
    """One code for each reason; a number in a payload and a unix time are none of v2."""
    client.stripe.add_meter("closed", active=False)
    client.post_json(V2, event("taken"))

    assert code(client.post_json(V2, wanted)) == (400, expected)
    assert client.stripe.tally() == {CREDITS: 5}


def test_v2_does_failed_work_again_under_the_same_key(client):
    """Where v1 repeats its stored 500, v2 tries once more; what worked is repeated as it was."""
    key = {"idempotency-key": "k"}
    client.stripe.break_next(counted=False)

    assert client.post_json(V2, event(), **key)[0] == 500
    assert client.post_json(V2, event(), **key)[0] == 200
    assert client.post_json(V2, event(), **key)[0] == 200
    assert client.stripe.tally() == {CREDITS: 5}


# The stream


def test_the_stream_takes_a_hundred_and_answers_nothing(client):
    """A hundred and one, or none, are refused; what it takes is counted."""
    events = [event(f"e{number}") for number in range(101)]

    assert stream(client, *events[:100]) == (200, {})
    assert stream(client, *events)[0] == 400
    assert stream(client)[0] == 400
    assert client.stripe.tally() == {CREDITS: 500}


def test_the_stream_counts_an_identifier_once_without_a_word(client):
    """In one call, in two, and after v1 has taken it."""
    client.send("one")

    assert stream(client, event("one"), event("two"), event("two")) == (200, {})
    assert stream(client, event("two")) == (200, {})
    assert client.stripe.tally() == {CREDITS: 10}
    assert client.get("/v2/core/events")[1]["data"] == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (event("bad", event_name="nowhere"), "no_meter"),
        (event("bad", event_name="closed"), "archived_meter"),
        (event("bad", value="five"), "meter_event_invalid_value"),
        (event("bad", value="1" * 16), "meter_event_value_too_many_digits"),
        (event("bad", payload={"value": "5"}), "meter_event_no_customer_defined"),
        (event("bad", customer="cus_gone"), "meter_event_customer_not_found"),
        (event("bad", seconds=-36 * 86400), "timestamp_too_far_in_past"),
        (event("bad", seconds=3600), "timestamp_in_future"),
    ],
)
def test_what_is_wrong_in_the_stream_is_reported_later(wanted, expected):
    """The answer is the same, the others in the call are counted, and the report names its code and identifier."""
    client = make(any_customer=False)
    client.stripe.add_customer("cus_1")
    client.stripe.add_meter("closed", active=False)

    assert stream(client, wanted, event("good")) == (200, {})
    client.clock.advance(12)

    [shown] = client.get("/v2/core/events")[1]["data"]
    (error,) = client.get(f"/v2/core/events/{shown['id']}")[1]["data"]["reason"]["error_types"]
    assert (error["code"], error["error_count"]) == (expected, 1)
    assert error["sample_errors"][0]["request"] == {"identifier": "bad"}
    assert {key: int(value) for key, value in client.stripe.tally().items() if value} == {CREDITS: 5}


def test_a_session_lasts_a_quarter_of_an_hour(client):
    """After it the token is refused by a code of its own; a key is no token, and a token no key."""
    session = opened(client)
    client.clock.advance(15 * 60 - 1)
    assert stream(client, event(), **session)[0] == 200
    client.clock.advance(1)

    status, refused = stream(client, event("two"), **session)

    assert (status, refused["error"]["code"]) == (401, "billing_meter_event_session_expired")
    assert refused["error"]["type"] == "temporary_session_expired"
    assert stream(client, event("two"), **client.headers)[0] == 401
    assert client.post_json(V2, event("two"), **opened(client))[0] == 401
    assert client.stripe.tally() == {CREDITS: 5}
