"""The sandbox's Stripe over HTTP with the real stripe SDK as client: what the SDK makes of answers and faults."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3
from stripe_account import NOW_SECONDS, stripe

from tallymark.core.clock import SECOND_US
from tallymark.sandbox.faults import Fault, Faults, nth


def third(fault):
    return Faults.script([(nth(3, "POST", "/v1/billing/meter_events"), fault)])


def test_the_sdk_sends_and_gets_its_object(serving_stripe):
    account = serving_stripe()
    answer = account.send()
    assert isinstance(answer, stripe.billing.MeterEvent)
    assert (answer.identifier, answer.payload["value"]) == ("one", "5")
    assert account.sandbox.tally() == {("cus_1", "credits"): 5}


def test_the_sdk_lists_all_meters_by_itself(serving_stripe):
    account = serving_stripe()
    for number in range(230):
        account.sandbox.add_meter(f"meter{number}")
    listed = account.client.v1.billing.meters.list({"limit": 100}).auto_paging_iter()
    assert len({meter.id for meter in listed}) == 231
    assert account.sandbox.counts() == {"GET /v1/billing/meters": 3}


def test_the_sdk_pages_through_hours_of_ten_and_of_a_hundred(serving_stripe):
    """Without a `limit` a page has ten rows: who does not page gets a plausible wrong sum. Empty hours have no row."""
    account = serving_stripe()
    hours = [*range(1, 120), 200]
    for hour in hours:
        account.send(f"h{hour}", "1", timestamp=NOW_SECONDS - hour * 3600)
    meter_id = account.sandbox.meter_events()[0].meter_id
    asked = {"customer": "cus_1", "start_time": NOW_SECONDS - 240 * 3600, "end_time": NOW_SECONDS}
    asked["value_grouping_window"] = "hour"
    summaries = account.client.v1.billing.meters.event_summaries
    assert sum(row.aggregated_value for row in summaries.list(meter_id, asked).data) == 10
    for limit, pages in ((None, 12), (100, 2)):
        account.sandbox.clear_requests()
        found = list(summaries.list(meter_id, asked | ({"limit": limit} if limit else {})).auto_paging_iter())
        assert [row.start_time for row in found] == [NOW_SECONDS - hour * 3600 for hour in hours]
        assert sum(account.sandbox.counts().values()) == pages


def test_the_sdk_makes_a_whole_account(serving_stripe):
    """Meter, customer, meter event, adjustment, summaries and account: every object is read by the SDK's classes."""
    account = serving_stripe(any_customer=False)
    v1 = account.client.v1
    meter = v1.billing.meters.create(
        {"display_name": "Tokens", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
    )
    customer = v1.customers.create({"name": "Ada"})
    account.send("a", "3", customer.id, NOW_SECONDS - 60, "tokens")
    account.send("b", "4", customer.id, NOW_SECONDS - 60, "tokens")
    v1.billing.meter_event_adjustments.create({"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "a"}})
    asked = {"customer": customer.id, "start_time": NOW_SECONDS - 3600, "end_time": NOW_SECONDS}
    [row] = v1.billing.meters.event_summaries.list(meter.id, asked).data
    assert row.aggregated_value == 4.0
    assert v1.billing.meters.deactivate(meter.id).status == "inactive"
    assert v1.customers.retrieve(customer.id).name == "Ada"
    assert v1.accounts.retrieve_current().id == "acct_sandbox"


def test_a_duplicate_is_an_invalid_request_that_names_the_identifier(serving_stripe):
    account = serving_stripe()
    account.send()
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier one") as caught:
        account.send()
    assert (caught.value.code, caught.value.headers["stripe-should-retry"]) == (None, "false")


def test_too_old_and_no_meter_are_invalid_requests(serving_stripe):
    account = serving_stripe()
    with pytest.raises(stripe.InvalidRequestError, match="more than 35 days in past"):
        account.send(timestamp=NOW_SECONDS - 36 * 86_400)
    with pytest.raises(stripe.InvalidRequestError, match='No active meter found for event name "none"'):
        account.send(event_name="none")


def test_a_wrong_key_is_an_authentication_error(serving_stripe):
    account = serving_stripe(secret_key="sk_test_other")
    with pytest.raises(stripe.AuthenticationError):
        account.send()


def test_a_stored_500_is_replayed_and_a_new_key_finds_the_duplicate(serving_stripe):
    account = serving_stripe()
    account.sandbox.break_next(counted=True)
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as caught:
            account.send(key="attempt-1")
        assert (caught.value.http_status, caught.value.headers.get("idempotent-replayed")) == (500, replayed)
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        account.send(key="attempt-2")
    assert account.sandbox.tally() == {("cus_1", "credits"): 5}


def test_other_parameters_under_one_key_are_an_idempotency_error(serving_stripe):
    account = serving_stripe()
    account.send(key="k")
    with pytest.raises(stripe.IdempotencyError):
        account.send(value="6", key="k")


def test_a_429_is_a_rate_limit_error_with_its_reason(serving_stripe):
    account = serving_stripe(rate_limit_per_second=1)
    account.send("one")
    with pytest.raises(stripe.RateLimitError) as caught:
        account.send("two")
    assert caught.value.headers["stripe-rate-limited-reason"] == "global-rate"


def test_a_429_fault_carries_retry_after_in_stripes_words(serving_stripe):
    account = serving_stripe(Faults(1, {Fault.RATE_LIMITED: 1}, retry_after_seconds=2))
    with pytest.raises(stripe.RateLimitError) as caught:
        account.send()
    assert caught.value.headers["retry-after"] == "2"
    assert account.sandbox.meter_events() == []


@pytest.mark.parametrize(
    ("fault", "error", "counted"),
    [
        (Fault.ERROR_BEFORE, stripe.APIError, False),
        (Fault.ERROR_AFTER, stripe.APIError, True),
        (Fault.RESET_BEFORE, stripe.APIConnectionError, False),
        (Fault.RESET_AFTER, stripe.APIConnectionError, True),
        (Fault.TRUNCATED, stripe.APIConnectionError, True),
        (Fault.HTML, stripe.APIError, False),
    ],
)
def test_a_retry_after_any_fault_leaves_it_counted_once(serving_stripe, fault, error, counted):
    """The third meter event fails; sent again under a new key it is accepted, or a duplicate if it had been counted."""
    account = serving_stripe(third(fault))
    account.send("one")
    account.send("two")
    with pytest.raises(error):
        account.send("three", key="attempt-1")
    assert len(account.sandbox.meter_events()) == (3 if counted else 2)
    if counted:
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            account.send("three", key="attempt-2")
    else:
        account.send("three", key="attempt-2")
    assert account.sandbox.tally() == {("cus_1", "credits"): 15}


@pytest.mark.parametrize(("fault", "counted"), [(Fault.HANG_BEFORE, 0), (Fault.HANG_AFTER, 1)])
def test_a_hang_is_a_connection_error_after_the_clients_time_out(serving_stripe, fault, counted):
    account = serving_stripe(Faults(1, {fault: 1}), timeout_seconds=0.2)
    with pytest.raises(stripe.APIConnectionError):
        account.send()
    assert len(account.sandbox.meter_events()) == counted


def test_a_call_beside_another_of_its_customer_is_refused_and_taken_later(serving_stripe):
    """The first call stays in flight until the second has been refused; `.code` is lost by the SDK on a 429."""
    entered, opened = threading.Event(), threading.Event()
    account = serving_stripe(processing_seconds=1, wait=lambda _seconds: entered.set() or opened.wait(10))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(account.send, "one")
        assert entered.wait(10)
        with pytest.raises(stripe.RateLimitError) as caught:
            account.send("two", "7")
        opened.set()
        assert first.result().identifier == "one"
    assert (caught.value.code, caught.value.error.code) == (None, "lock_timeout")
    account.send("two", "7")
    assert account.sandbox.tally() == {("cus_1", "credits"): 12}


def test_seeded_faults_of_every_kind_never_double_or_lose(serving_stripe):
    """A client that retries with the same identifier and fresh keys ends with each meter event counted once."""
    rates = {fault: 0.08 for fault in Fault if fault not in (Fault.HANG_BEFORE, Fault.HANG_AFTER)}
    faults = Faults(11, rates)
    account = serving_stripe(faults)
    for number in range(60):
        _send_through(account, f"i{number}")
    assert account.sandbox.tally() == {("cus_1", "credits"): 60}
    assert len(faults.done) == len(rates)


def _send_through(account, identifier):
    for _ in range(50):
        try:
            account.send(identifier, "1")
            return
        except stripe.InvalidRequestError as error:
            assert f"already exists with identifier {identifier}" in str(error)
            return
        except stripe.StripeError:
            continue
    raise AssertionError("never answered")


def test_the_tally_can_be_read_over_http_without_a_key(serving_stripe):
    account = serving_stripe()
    account.send(value="12")
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", account.server.url + "/sandbox/tally")
    assert json.loads(answer.data) == [{"customer": "cus_1", "event_name": "credits", "value": 12}]


def test_another_process_can_plant_and_judge_over_http(serving_stripe):
    """Rejections and subscriptions are planted, and invoices judged, without a key and without leaving a trace."""
    account = serving_stripe()
    start_us = NOW_SECONDS * SECOND_US

    def ask(path, body=None):
        with urllib3.PoolManager() as pool:
            method = "GET" if body is None else "POST"
            answer = pool.request(method, f"{account.server.url}/sandbox/{path}", json=body)
        return answer.status, json.loads(answer.data)

    subscribed = {"customer": "cus_1", "event_name": "credits", "started_at_us": start_us, "period": 3600}
    assert ask("subscriptions", subscribed) == (200, {"id": "sub_sandbox_0001"})
    assert ask("rejections", {"code": "timestamp_in_future"})[0] == 200
    account.send("one", "3", timestamp=NOW_SECONDS)
    account.send("two", "4", timestamp=NOW_SECONDS)
    account.send("three", "5", timestamp=NOW_SECONDS - 60)
    account.clock.advance(7200)
    account.send("four", "6", timestamp=NOW_SECONDS)
    [invoiced] = ask("invoiced")[1]
    assert (invoiced["customer"], invoiced["credits"], invoiced["period_start_us"]) == ("cus_1", 4, start_us)
    assert [one["identifier"] for one in ask("lost")[1]] == ["four"]
    assert [one["identifier"] for one in ask("unbilled")[1]] == ["three"]
    shown = {one["identifier"]: (one["counted"], one["rejected_later"]) for one in ask("meter_events")[1]}
    assert shown["one"] == (False, True)
    assert shown["two"] == (True, False)
    wrong_price = subscribed | {"unit_amount_decimal": "a lot"}
    for path, wrong in (
        ("rejections", {}),
        ("subscriptions", subscribed | {"period": 5}),
        ("subscriptions", wrong_price),
    ):
        status, content = ask(path, wrong)
        assert (status, content["error"]["type"]) == (400, "invalid_request_error")
    assert ask("subscriptions", subscribed | {"event_name": "none"})[0] == 400
    assert account.sandbox.counts() == {"POST /v1/billing/meter_events": 4}
