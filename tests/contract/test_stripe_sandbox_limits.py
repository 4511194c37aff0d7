"""The sandbox's Stripe in process: idempotency keys, calls in flight and limits (facts/stripe.md section 6)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from stripe_client import METER_EVENTS, Client, make

from tallymark.sandbox.wire import Request


@pytest.fixture
def client():
    return make()


# Idempotency keys


def test_the_first_answer_of_a_key_is_replayed_and_counted_once(client):
    first = client.send("one", idempotency_key="k1")
    assert "idempotent-replayed" not in client.last.headers
    assert client.send("one", idempotency_key="k1") == first
    assert client.last.headers["idempotent-replayed"] == "true"
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


@pytest.mark.parametrize(("counted", "then"), [(True, 400), (False, 200)])
def test_a_stored_500_is_replayed_until_a_new_key_comes(client, counted, then):
    """After a stored 500 a new key with the same identifier learns the truth."""
    client.stripe.break_next(counted=counted)
    assert client.send("one", idempotency_key="k1")[0] == 500
    assert client.send("one", idempotency_key="k1")[0] == 500
    assert client.last.headers["idempotent-replayed"] == "true"
    assert client.send("one", idempotency_key="k2")[0] == then
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


def test_other_parameters_under_one_key_are_an_idempotency_error(client):
    client.send("one", "5", idempotency_key="k1")
    status, content = client.send("one", "6", idempotency_key="k1")
    assert (status, content["error"]["type"]) == (400, "idempotency_error")


def test_a_refused_request_does_not_use_up_its_key(client):
    assert client.send("one", "x", idempotency_key="k1")[0] == 400
    assert client.send("one", "5", idempotency_key="k1")[0] == 200


def test_keys_are_forgotten_after_24_hours(client):
    client.send("one", idempotency_key="k1")
    client.clock.advance(24 * 3600)
    client.send("one", idempotency_key="k1")
    assert "idempotent-replayed" not in client.last.headers


def test_a_key_has_at_most_255_characters(client):
    assert client.send("one", idempotency_key="k" * 255)[0] == 200
    assert client.send("two", idempotency_key="k" * 256)[0] == 400


# Limits


class Gate:
    """A processing time that lasts until the test opens the gate."""

    def __init__(self):
        self.entered, self.opened = threading.Semaphore(0), threading.Event()

    def wait(self, _seconds):
        self.entered.release()
        assert self.opened.wait(10)


@pytest.fixture
def gated():
    """A client whose meter events stay in flight until `gate.opened` is set, and its gate."""
    gate = Gate()
    client = make(processing_seconds=1, wait=gate.wait)
    with ThreadPoolExecutor(4) as pool:
        client.begin = lambda *args, **more: pool.submit(Client(client.clock, client.stripe).send, *args, **more)
        yield client, gate
        gate.opened.set()


def test_a_second_call_for_the_same_customer_and_meter_is_429(gated):
    client, gate = gated
    first = client.begin("one")
    assert gate.entered.acquire(timeout=10)
    status, content = client.send("two")
    assert (status, content["error"]["code"]) == (429, "lock_timeout")
    assert client.last.headers["stripe-rate-limited-reason"] == "resource-specific"
    gate.opened.set()
    assert first.result()[0] == 200
    assert client.send("two")[0] == 200
    assert list(client.stripe.max_in_flight().values()) == [2]


def test_other_customers_and_meters_do_not_wait(gated):
    client, gate = gated
    client.stripe.add_meter("tokens")
    calls = [client.begin("a"), client.begin("b", customer="cus_2"), client.begin("c", event_name="tokens")]
    for _ in calls:
        assert gate.entered.acquire(timeout=10)
    gate.opened.set()
    assert [call.result()[0] for call in calls] == [200, 200, 200]
    assert set(client.stripe.max_in_flight().values()) == {1}


def test_a_key_in_progress_is_409(gated):
    client, gate = gated
    first = client.begin("one", idempotency_key="k1")
    assert gate.entered.acquire(timeout=10)
    status, content = client.send("one", idempotency_key="k1")
    assert (status, content["error"]["type"]) == (409, "idempotency_error")
    gate.opened.set()
    assert first.result()[0] == 200


def test_the_account_has_a_limit_per_second():
    client = make(rate_limit_per_second=2)
    assert [client.send(f"i{number}")[0] for number in range(3)] == [200, 200, 429]
    assert client.last.headers["stripe-rate-limited-reason"] == "global-rate"
    client.clock.advance(1)
    assert client.send("i2")[0] == 200


def test_no_meter_event_is_lost_or_doubled_under_many_threads():
    client = make()
    with ThreadPoolExecutor(8) as pool:
        one_each = [pool.submit(client.stripe.handle, request_of(number)) for number in range(400)]
    assert {one.result().status for one in one_each} == {200}
    assert client.stripe.tally() == {(f"cus_{number}", "credits"): 1 for number in range(400)}


def request_of(number):
    params = {"event_name": "credits", "payload[stripe_customer_id]": f"cus_{number}", "payload[value]": "1"}
    headers = {"authorization": "Bearer sk_test_sandbox", "idempotency-key": f"k{number}"}
    return Request("POST", METER_EVENTS, (), headers, urlencode(params | {"identifier": f"i{number}"}).encode())
