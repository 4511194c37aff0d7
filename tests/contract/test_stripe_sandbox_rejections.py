"""The sandbox's Stripe in process: meter events rejected after a 200, and their reports (facts/stripe.md section 2)."""

import pytest
from stripe_client import NOW_SECONDS, make

from tallymark.core.clock import SECOND_US

WINDOW_SECONDS = 10
# The default validation takes 5 s, so what is received on the hour is validated in the window that begins there.
REPORTED_AFTER_SECONDS = WINDOW_SECONDS + 2


@pytest.fixture
def client():
    return make()


def events(client, **params):
    status, content = client.get("/v2/core/events", **params)
    assert status == 200
    return content["data"]


def report(client, number=0):
    """The newest report but `number`, with its data."""
    return client.get(f"/v2/core/events/{events(client)[number]['id']}")[1]


def error_types(client, number=0):
    reason = report(client, number)["data"]["reason"]
    return {one["code"]: one["error_count"] for one in reason["error_types"]}


def meter_id(client):
    return client.get("/v1/billing/meters")[1]["data"][0]["id"]


def switch(client, on):
    client.call("POST", f"/v1/billing/meters/{meter_id(client)}/{'reactivate' if on else 'deactivate'}")


# Why


def test_a_missing_customer_is_reported_after_its_window():
    """The report names code, identifier, meter and the window of ten seconds, and comes two seconds after it."""
    client = make(any_customer=False)
    client.send("one", customer="cus_gone")
    client.clock.advance(REPORTED_AFTER_SECONDS - 1)
    assert events(client) == []
    client.clock.advance(1)
    [shown] = events(client)
    assert shown["type"] == "v1.billing.meter.error_report_triggered"
    assert shown["created"] == "2026-11-18T12:00:12.000Z"
    assert shown["related_object"]["url"] == f"/v1/billing/meters/{meter_id(client)}"
    assert report(client)["data"] == {
        "developer_message_summary": "There is 1 invalid event",
        "validation_start": "2026-11-18T12:00:00.000Z",
        "validation_end": "2026-11-18T12:00:10.000Z",
        "reason": {
            "error_count": 1,
            "error_types": [
                {
                    "code": "meter_event_customer_not_found",
                    "error_count": 1,
                    "sample_errors": [
                        {"error_message": "No such customer: 'cus_gone'", "request": {"identifier": "one"}}
                    ],
                }
            ],
        },
    }


@pytest.mark.parametrize(("seconds", "counted"), [(4, 5), (5, 5), (6, 0)])
def test_a_customer_made_before_validation_saves_the_meter_event(seconds, counted):
    """What is true at validation decides, five seconds after receipt; what comes earlier or later does not."""
    client = make(any_customer=False)
    client.send("one", "5", customer="cus_late")
    assert client.stripe.tally() == {("cus_late", "credits"): 0}
    client.clock.advance(seconds)
    client.stripe.add_customer("cus_late")
    client.clock.advance(60)
    assert client.stripe.tally() == {("cus_late", "credits"): counted}
    assert bool(events(client)) == (counted == 0)


def test_what_was_true_at_validation_decides_even_if_nobody_looked_then():
    """Deactivated before validation and reactivated after it, with no look in between: rejected all the same."""
    client = make()
    client.send("one")
    client.clock.advance(2)
    switch(client, on=False)
    client.clock.advance(10)
    switch(client, on=True)
    client.send("two")
    client.clock.advance(60)
    assert [one.identifier for one in client.stripe.rejected_later()] == ["one"]
    assert error_types(client) == {"archived_meter": 1}


def test_a_meter_deactivated_and_active_again_at_validation_is_no_error(client):
    client.send("one")
    switch(client, on=False)
    client.clock.advance(1)
    switch(client, on=True)
    client.clock.advance(60)
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


def test_a_meter_deactivated_after_validation_keeps_what_it_has(client):
    client.send("one")
    client.clock.advance(6)
    switch(client, on=False)
    assert client.stripe.tally() == {("cus_1", "credits"): 5}


@pytest.mark.parametrize("code", ["meter_event_invalid_value", "timestamp_in_future", "meter_event_value_not_found"])
def test_a_rejection_can_be_planted(client, code):
    """Any code, for the next so many meter events that are taken; refused ones do not use it up."""
    client.stripe.reject_next(2, code)
    client.send("refused", "not a number")
    for identifier in ("one", "two", "three"):
        assert client.send(identifier)[0] == 200
    assert client.stripe.tally() == {("cus_1", "credits"): 5}
    client.clock.advance(60)
    assert error_types(client) == {code: 2}


def test_a_planted_message_is_reported_word_for_word(client):
    client.stripe.reject_next(1, "meter_event_invalid_value", "The value {of} it all is wrong.")
    client.send("one")
    client.clock.advance(60)
    [kind] = report(client)["data"]["reason"]["error_types"]
    assert kind["sample_errors"][0]["error_message"] == "The value {of} it all is wrong."


def test_where_there_is_no_meter_the_report_has_none(client):
    client.stripe.reject_next(1, "no_meter")
    client.send("one")
    client.send("two")
    client.clock.advance(60)
    [shown] = events(client)
    assert (shown["type"], shown["related_object"]) == ("v1.billing.meter.no_meter_found", None)


# How they are grouped


def test_there_is_a_report_for_each_meter_and_window(client):
    client.stripe.add_meter("tokens")
    client.stripe.reject_next(9, "meter_event_invalid_value")
    for second in range(3):
        client.send(f"c{second}")
        client.send(f"t{second}", event_name="tokens")
        client.clock.advance(WINDOW_SECONDS)
    client.clock.advance(60)
    found = [(one["related_object"]["id"], one["created"]) for one in events(client)]
    assert len(set(found)) == 6
    assert [created for _, created in found] == sorted((created for _, created in found), reverse=True)


def test_a_report_names_only_samples_of_each_code():
    """So a client cannot learn from reports which meter events were lost; the count is right."""
    client = make(error_samples_max=2)
    client.stripe.reject_next(4, "meter_event_invalid_value")
    client.stripe.reject_next(1, "timestamp_in_future")
    for number in range(5):
        client.send(f"i{number}")
    client.clock.advance(60)
    reason = report(client)["data"]["reason"]
    assert reason["error_count"] == 5
    named = [[one["request"]["identifier"] for one in kind["sample_errors"]] for kind in reason["error_types"]]
    assert named == [["i0", "i1"], ["i4"]]
    assert report(client)["data"]["developer_message_summary"] == "There are 5 invalid events"


def test_reports_are_kept_for_30_days(client):
    client.stripe.reject_next()
    client.send("one")
    client.clock.advance(60)
    identity = events(client)[0]["id"]
    client.clock.advance(30 * 86_400)
    assert events(client) == []
    status, content = client.get(f"/v2/core/events/{identity}")
    assert (status, content["error"]["code"]) == (404, "not_found")


# Counting, identifiers and cancelling


def test_what_will_be_rejected_is_never_counted():
    """Neither in the tally nor in summaries, before its validation or after it."""
    client = make(any_customer=False)
    client.stripe.add_customer("cus_1")
    client.stripe.reject_next()
    client.send("one", "3")
    client.send("two", "4")
    asked = {"customer": "cus_1", "start_time": NOW_SECONDS, "end_time": NOW_SECONDS + 60}
    for _ in range(2):
        assert client.stripe.tally() == {("cus_1", "credits"): 4}
        [row] = client.get(f"/v1/billing/meters/{meter_id(client)}/event_summaries", **asked)[1]["data"]
        assert row["aggregated_value"] == 4
        client.clock.advance(60)


def cancel(client, identifier="one"):
    params = {"event_name": "credits", "type": "cancel", "cancel[identifier]": identifier}
    return client.call("POST", "/v1/billing/meter_event_adjustments", params)


def fail_by_rejection(client):
    client.stripe.reject_next()
    client.send("one")
    client.clock.advance(5)


def fail_by_cancelling(client):
    client.send("one")
    cancel(client)


@pytest.mark.parametrize("fail", [fail_by_rejection, fail_by_cancelling])
@pytest.mark.parametrize(("free", "status", "counted"), [(False, 400, 0), (True, 200, 7)])
def test_an_identifier_that_failed_is_free_only_if_so_chosen(fail, free, status, counted):
    client = make(identifier_free_after_failure=free)
    fail(client)
    assert client.send("one", "7")[0] == status
    assert client.stripe.tally() == {("cus_1", "credits"): counted}
    assert client.send("one", "7")[0] == 400


def test_an_identifier_is_not_free_before_its_rejection(client):
    client = make(identifier_free_after_failure=True)
    client.stripe.reject_next()
    client.send("one")
    client.clock.advance(4)
    assert client.send("one")[0] == 400


def test_what_was_cancelled_or_rejected_cannot_be_cancelled_again(client):
    client.send("one")
    assert [cancel(client)[0], cancel(client)[0]] == [200, 400]
    client.stripe.reject_next()
    client.send("two")
    client.clock.advance(5)
    assert cancel(client, "two")[0] == 400


def test_what_was_cancelled_before_its_validation_is_not_reported(client):
    client.stripe.reject_next()
    client.send("one")
    assert cancel(client)[0] == 200
    client.clock.advance(60)
    assert events(client) == []


def test_an_adjustment_must_name_an_identifier(client):
    """Optional in the schema of v1, but only single meter events can be cancelled (facts/stripe.md section 3)."""
    status, content = client.call(
        "POST", "/v1/billing/meter_event_adjustments", {"event_name": "credits", "type": "cancel"}
    )
    assert (status, content["error"]["param"]) == (400, "cancel[identifier]")


def test_a_rejection_of_a_call_that_broke_waits_for_one_that_is_kept(client):
    client.stripe.reject_next()
    client.stripe.break_next(counted=False)
    assert client.send("one")[0] == 500
    assert client.send("one")[0] == 200
    assert [one.identifier for one in client.stripe.rejected_later()] == ["one"]
    assert client.stripe.rejected_later()[0].received_at_us == NOW_SECONDS * SECOND_US
