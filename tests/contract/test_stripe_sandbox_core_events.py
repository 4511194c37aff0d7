"""The sandbox's v2 core events and webhooks with the real stripe SDK as client (facts/stripe.md section 2)."""

import json
import time

import pytest
from sdk_fields import undeclared
from stripe_account import NOW_SECONDS, stripe

from tallymark.core.clock import SECOND_US, format_time

ERROR_REPORT, NO_METER = "v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"
SECRET = "whsec_test"


def reject(account, count=1, code="meter_event_invalid_value"):
    """Make that many reports, ten seconds apart."""
    for _ in range(count):
        number = len(account.sandbox.meter_events())
        account.sandbox.reject_next(1, code)
        account.send(f"i{number}")
        account.clock.advance(10)
    account.clock.advance(2)


def listed(account, **params):
    return list(account.client.v2.core.events.list(params).auto_paging_iter())


def at(seconds):
    return format_time((NOW_SECONDS + seconds) * SECOND_US)


# List and retrieve


def test_the_sdk_lists_reports_without_data_and_retrieves_them_with(serving_stripe):
    """The SDK makes its own class of it, with every field declared."""
    account = serving_stripe()
    reject(account)
    [shown] = listed(account)
    assert isinstance(shown, stripe.events.V1BillingMeterErrorReportTriggeredEvent)
    assert "data" not in shown
    found = account.client.v2.core.events.retrieve(shown.id)
    assert undeclared(found) == []
    assert (found.created, found.livemode, found.reason) == (at(12), False, None)
    [kind] = found.data.reason.error_types
    assert (kind.code, kind.error_count) == ("meter_event_invalid_value", 1)
    assert kind.sample_errors[0].request.identifier == "i0"
    assert (found.data.validation_start, found.data.validation_end) == (at(0), at(10))
    assert found.fetch_related_object().event_name == "credits"


def test_the_sdk_pages_through_all_reports(serving_stripe):
    """Forty-five reports in pages of ten: each once, the newest first, filters kept from page to page."""
    account = serving_stripe()
    reject(account, 45)
    reject(account, 1, "no_meter")
    found = listed(account, limit=10, types=[ERROR_REPORT, "v1.billing.meter.created"], created={"gt": at(0)})
    assert len({one.id for one in found}) == len(found) == 45
    assert [one.created for one in found] == sorted((one.created for one in found), reverse=True)
    assert account.sandbox.counts()["GET /v2/core/events"] == 5


def test_a_page_goes_on_where_it_stopped_while_reports_arrive(serving_stripe):
    account = serving_stripe()
    reject(account, 4)
    first = account.client.v2.core.events.list({"limit": 2})
    reject(account, 1)
    found = [one.id for one in first.auto_paging_iter()]
    assert found == [one.id for one in listed(account)][1:]


def test_reports_are_filtered(serving_stripe):
    account = serving_stripe()
    reject(account, 2)
    reject(account, 1, "no_meter")
    meter = account.sandbox.meter_events()[0].meter_id
    assert [one.type for one in listed(account, types=[NO_METER])] == [NO_METER]
    assert len(listed(account, object_id=meter)) == 2
    assert listed(account, object_id="mtr_other") == []
    moments = [one.created for one in listed(account)]
    assert [one.created for one in listed(account, created={"gte": moments[1]})] == moments[:2]
    assert [one.created for one in listed(account, created={"gt": moments[1]})] == moments[:1]
    assert [one.created for one in listed(account, created={"lte": moments[1]})] == moments[1:]
    assert [one.created for one in listed(account, created={"lt": moments[1]})] == moments[2:]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 101},
        {"page": "nobody"},
        {"created": {"gte": "yesterday"}},
        {"created": {"after": "2026-11-20T10:00:00Z"}},
        {"types": [f"type{number}" for number in range(21)]},
        {"colour": "red"},
    ],
)
def test_a_wrong_list_is_refused_in_the_shape_of_v2(serving_stripe, params):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        listed(serving_stripe(), **params)
    assert set(caught.value.json_body["error"]) == {"code", "message"}


def test_an_unknown_report_is_an_invalid_request(serving_stripe):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        serving_stripe().client.v2.core.events.retrieve("evt_nobody")
    assert (caught.value.http_status, caught.value.code) == (404, "not_found")


def test_a_wrong_key_is_an_authentication_error_of_v2_too(serving_stripe):
    account = serving_stripe()
    with pytest.raises(stripe.AuthenticationError):
        account.client_of("sk_test_other").v2.core.events.list()


# Webhooks


def test_the_sdk_takes_a_notification_and_fetches_its_event(serving_stripe):
    """Body and signature are such that the SDK verifies them, and the report is fetched by what they say."""
    account = serving_stripe()
    reject(account)
    [body] = account.sandbox.notifications()
    assert "data" not in json.loads(body)
    signed = account.sandbox.sign(body, SECRET, int(time.time()))
    assert signed == stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET, int(signed[2:12]))
    notification = account.client.parse_event_notification(body, signed, SECRET)
    assert isinstance(notification, stripe.events.V1BillingMeterErrorReportTriggeredEventNotification)
    assert notification.fetch_event().data.reason.error_count == 1
    assert notification.fetch_related_object().id == notification.related_object.id


def test_the_sdk_takes_a_notification_without_a_meter(serving_stripe):
    account = serving_stripe()
    reject(account, 1, "no_meter")
    [body] = account.sandbox.notifications()
    notification = account.client.parse_event_notification(
        body, account.sandbox.sign(body, SECRET, int(time.time())), SECRET
    )
    assert isinstance(notification, stripe.events.V1BillingMeterNoMeterFoundEventNotification)
    assert notification.fetch_event().data.reason.error_types[0].code == "no_meter"


@pytest.mark.parametrize(
    ("change", "secret"), [(b"x", SECRET), (b"", "whsec_other"), (b"", SECRET)], ids=["body", "secret", "age"]
)
def test_the_sdk_refuses_a_wrong_signature(serving_stripe, change, secret):
    """Another body, another secret, and a signature of the sandbox's clock, which is old."""
    account = serving_stripe()
    reject(account)
    [body] = account.sandbox.notifications()
    moment = int(time.time()) if change or secret != SECRET else int(time.time()) - 301
    with pytest.raises(stripe.SignatureVerificationError):
        account.client.parse_event_notification(body + change, account.sandbox.sign(body, SECRET, moment), secret)


def test_notifications_can_be_asked_for_since_a_moment(serving_stripe):
    account = serving_stripe()
    reject(account, 3)
    assert len(account.sandbox.notifications()) == 3
    assert len(account.sandbox.notifications((NOW_SECONDS + 30) * SECOND_US)) == 1


def test_a_push_is_repeated_until_it_is_answered_and_no_longer(serving_stripe):
    """In order of creation, with the clock's signature; what was not answered with 2xx comes again."""
    account, taken, statuses = serving_stripe(), [], iter([200, 500, 302, 204, 204])

    def deliver(body, header):
        taken.append((json.loads(body)["created"], header.split(",")[0]))
        return next(statuses)

    reject(account, 3)
    assert account.sandbox.push(deliver, SECRET) == [200, 500, 302]
    account.clock.advance(60)
    assert account.sandbox.push(deliver, SECRET) == [204, 204]
    assert account.sandbox.push(deliver, SECRET) == []
    first, second = f"t={NOW_SECONDS + 32}", f"t={NOW_SECONDS + 92}"
    assert taken == [(at(12), first), (at(22), first), (at(32), first), (at(22), second), (at(32), second)]
