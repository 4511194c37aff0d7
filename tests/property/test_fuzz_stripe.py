"""Whatever Stripe answers: a value of the right kind or a named error, and nothing called accepted by mistake.

The real SDK reads each answer; only the transport below it is ours.
"""

import copy
import json
import re
from decimal import Decimal

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from builders import NOW_US
from fuzzing import ANY_JSON, as_text, examples, mutated
from tallymark.core.clock import HOUR_US, SECOND_US
from tallymark.core.doubt import Value
from tallymark.core.reports import ERROR_REPORT, ErrorReport, Notification
from tallymark.core.states import Answer, CancelClaim, Claim
from tallymark.errors import TallymarkError
from tallymark.meter.invoice_items import NewItem, create_item, find_item
from tallymark.meter.permissions import may_read_invoice_items, not_needed, require_meter_events
from tallymark.meter.reports import fetch_report, new_notifications
from tallymark.meter.stripe_events import StripeMeter
from tallymark.meter.subscriptions import Item, items_of
from tallymark.meter.summaries import summaries
from tallymark.sandbox.clock import VirtualClock

CLAIM = Claim("tm-one", "tm-one", "cus_1", "credits", NOW_US // SECOND_US, 5, "{}", 1, "key-1", None, NOW_US)
CANCEL = CancelClaim("tm-one", "tm-one", "credits", 2, "key-2", False)
NEW = NewItem("tm-one", 1, "cus_1", "usd", 200, "500 credits", NOW_US - HOUR_US, NOW_US)
NOTIFICATION = Notification("evt_1", ERROR_REPORT, NOW_US, "mtr_1")

METER = {
    "id": "mtr_1",
    "object": "billing.meter",
    "event_name": "credits",
    "status": "active",
    "default_aggregation": {"formula": "sum"},
    "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
    "value_settings": {"event_payload_key": "value"},
}
SUMMARY = {
    "id": "sum_1",
    "object": "billing.meter_event_summary",
    "aggregated_value": 5.0,
    "start_time": 3600,
    "end_time": 7200,
    "meter": "mtr_1",
}
PRICE = {
    "id": "price_1",
    "object": "price",
    "billing_scheme": "per_unit",
    "currency": "usd",
    "recurring": {"interval": "month", "meter": "mtr_1"},
    "transform_quantity": None,
    "unit_amount_decimal": "0.4",
}
ITEM = {
    "id": "si_1",
    "object": "subscription_item",
    "current_period_start": 0,
    "current_period_end": 2_592_000,
    "price": PRICE,
}
SUBSCRIPTION = {
    "id": "sub_1",
    "object": "subscription",
    "status": "active",
    "ended_at": None,
    "cancel_at": None,
    "items": {"object": "list", "data": [ITEM], "has_more": False, "url": "/v1/subscription_items"},
}
REPORT = {
    "id": "evt_1",
    "object": "v2.core.event",
    "type": ERROR_REPORT,
    "created": "2026-11-23T11:00:00Z",
    "livemode": False,
    "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"},
    "data": {
        "validation_start": "2026-11-23T11:00:00Z",
        "validation_end": "2026-11-23T11:00:10Z",
        "reason": {
            "error_count": 1,
            "error_types": [
                {
                    "code": "no_meter",
                    "error_count": 1,
                    "sample_errors": [{"error_message": "no", "request": {"identifier": "tm-one"}}],
                }
            ],
        },
    },
}
INVOICE_ITEM = {"id": "ii_1", "object": "invoiceitem", "metadata": {"tallymark_meter_event": "tm-one"}}
ERROR = {"error": {"type": "invalid_request_error", "message": "no", "code": "resource_missing", "param": "customer"}}
BILLED = re.compile("tm-one|billing.meter_event_adjustment")
STATUSES = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 409, 418, 429, 500, 503])
RETRY_AFTER = st.sampled_from([None, "0", "-5", "nan", "inf", "soon", "1e999"])


def listed(row):
    """A page of v1 with this row."""
    return {"object": "list", "data": [row], "has_more": False, "url": "/v1/list"}


class Wire(stripe.HTTPClient):
    """Answers the first requests as it is told and then with an empty list, so that paging comes to an end."""

    name = "wire"

    def __init__(self, status, body, retry_after):
        super().__init__()
        self.answer = body, status, {"retry-after": retry_after} if retry_after is not None else {}
        self.asked = 0

    def request(self, method, url, headers, post_data=None):
        """Whatever was asked."""
        self.asked += 1
        end = {"object": "list", "data": [], "has_more": False, "url": "/v1/list", "next_page_url": None}
        return self.answer if self.asked <= 3 else (json.dumps(end), 200, {})

    def close(self):
        """Nothing is open."""


def meter_on(wire):
    """A meter whose requests go there."""
    meter = StripeMeter("sk_test_fuzz", VirtualClock(NOW_US), requests_per_second=1_000_000)
    meter.client = stripe.StripeClient("sk_test_fuzz", http_client=wire, max_network_retries=0)
    return meter


def is_meters(found):
    return isinstance(found, list) and all(isinstance(one["id"], str) for one in found)


def is_values(found):
    return all(isinstance(start, int) and isinstance(value, Value) for start, value in found.items())


def is_items(found):
    return all(
        isinstance(one, Item)
        and isinstance(one.period.end_us, int)
        and (one.unit_price is None or isinstance(one.unit_price, Decimal))
        for one in found
    )


def is_report(found):
    return isinstance(found, ErrorReport) and all(error.count >= len(error.samples) for error in found.errors)


# What is asked, an answer that real ones look like, and what comes of it.
READS = {
    "meters": (lambda meter: meter.meters(), listed(METER), is_meters),
    "check": (
        lambda meter: meter.check(["credits"]),
        listed(METER),
        lambda found: isinstance(found["credits"].meter_id, str),
    ),
    "customer": (lambda meter: meter.customer_problem("cus_1"), {"id": "cus_1", "object": "customer"}, str.isprintable),
    "summaries": (lambda meter: summaries(meter, "mtr_1", "cus_1", 0, 7200, "hour"), listed(SUMMARY), is_values),
    "subscriptions": (lambda meter: items_of(meter, "cus_1"), listed(SUBSCRIPTION), is_items),
    "notifications": (
        lambda meter: list(new_notifications(meter, 0)),
        {"data": [REPORT], "next_page_url": None, "previous_page_url": None},
        lambda found: all(isinstance(one, Notification) for one in found),
    ),
    "report": (lambda meter: fetch_report(meter, NOTIFICATION, {"mtr_1": "credits"}), REPORT, is_report),
    "invoice item": (
        lambda meter: find_item(meter, "cus_1", "tm-one"),
        listed(INVOICE_ITEM),
        lambda found: found is None or isinstance(found, str),
    ),
    "new item": (lambda meter: create_item(meter, NEW), INVOICE_ITEM, lambda found: isinstance(found, str)),
    "permissions": (
        lambda meter: (require_meter_events(meter), may_read_invoice_items(meter), not_needed(meter)),
        listed(METER),
        lambda found: len(found) == 3,
    ),
}
SENDS = {"send": lambda meter: meter.send(CLAIM), "take back": lambda meter: meter.take_back(CANCEL)}
SENT_LIKE = {
    "send": {"object": "billing.meter_event", "identifier": "tm-one"},
    "take back": {"object": "billing.meter_event_adjustment", "cancel": {"identifier": "tm-one"}},
}


def bodies(like):
    """Text of an answer: like a real one, like an error, any JSON, or none at all."""
    return (
        mutated([like, ERROR]).map(as_text)
        | ANY_JSON.map(as_text)
        | st.sampled_from(["", "null", "<html>", '{"data":', as_text(ERROR), "[" * 3000])
    )


@pytest.mark.parametrize("name", READS)
def test_any_answer_is_a_value_or_a_named_error(name):
    """Nothing else comes out of the adapter."""
    ask, like, is_right = READS[name]
    assert is_right(ask(meter_on(Wire(200, json.dumps(copy.deepcopy(like)), None))))

    @examples(40)
    @given(STATUSES, bodies(like), RETRY_AFTER)
    def any_answer(status, body, retry_after):
        try:
            found = ask(meter_on(Wire(status, body, retry_after)))
        except TallymarkError as error:
            str(error).encode()
            return
        assert is_right(found)

    any_answer()


@pytest.mark.parametrize("name", SENDS)
def test_any_answer_to_a_send_is_an_outcome(name):
    """Accepted only if Stripe said 2xx of this meter event; a wait that a clock can wait for; a detail to be kept."""

    @examples(80)
    @given(STATUSES, bodies(SENT_LIKE[name]), RETRY_AFTER)
    def any_answer(status, body, retry_after):
        try:
            outcome = SENDS[name](meter_on(Wire(status, body, retry_after)))
        except TallymarkError:
            assert status in (401, 403)
            return
        assert outcome.answer is not Answer.ACCEPTED or (200 <= status < 300 and BILLED.search(body))
        assert outcome.retry_after_seconds is None or 0 <= outcome.retry_after_seconds <= 60
        outcome.detail.encode()

    any_answer()


@pytest.mark.parametrize("body", ["{}", "null", "[]", '{"identifier":"tm-other"}', '{"object":"billing.meter_event"}'])
@pytest.mark.parametrize("name", SENDS)
def test_a_200_that_is_not_about_the_meter_event_is_no_acceptance(name, body):
    """A portal or a proxy says 200 to everything; it is asked again, under the identifier that Stripe counts once."""
    assert SENDS[name](meter_on(Wire(200, body, None))).answer is Answer.UNKNOWN


def test_a_200_about_the_meter_event_is_acceptance():
    """As Stripe says it of each of the two."""
    sent = json.dumps({"object": "billing.meter_event", "identifier": "tm-one"})
    taken = json.dumps({"object": "billing.meter_event_adjustment", "cancel": {"identifier": "tm-one"}})

    assert SENDS["send"](meter_on(Wire(200, sent, None))).answer is Answer.ACCEPTED
    assert SENDS["take back"](meter_on(Wire(200, taken, None))).answer is Answer.ACCEPTED
    unnamed = json.dumps({"object": "billing.meter_event_adjustment", "cancel": None})
    assert SENDS["take back"](meter_on(Wire(200, unnamed, None))).answer is Answer.ACCEPTED
