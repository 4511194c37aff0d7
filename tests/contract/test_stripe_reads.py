"""What is read from Stripe besides meters: summaries and reports, also where it answers what nobody expects."""

import json

import pytest
from stub_services import JSON, Answers

from builders import NOW_US
from tallymark.core.clock import DAY_US, HOUR_US, SECOND_US
from tallymark.core.doubt import Value
from tallymark.core.reports import ERROR_REPORT, Notification, ReportedError, Sample
from tallymark.errors import KeyRefused, NotFound, Unavailable
from tallymark.meter.reports import fetch_report, new_notifications
from tallymark.meter.stripe_events import READ_ATTEMPTS_MAX, StripeMeter
from tallymark.meter.summaries import summaries, value_of
from tallymark.sandbox.wire import Response

HOUR_S, NOW_S = 3600, NOW_US // SECOND_US
NOTIFICATION = Notification("evt_1", ERROR_REPORT, NOW_US, "mtr_1")
WINDOW = {"validation_start": "2026-11-23T12:00:00Z", "validation_end": "2026-11-23T12:00:10Z"}


@pytest.fixture
def meter(clock, serving):
    """A function that opens a meter on a service."""
    return lambda service: StripeMeter("sk_test_sandbox", clock, api_base=serving(service), requests_per_second=10**6)


@pytest.fixture
def fill(stripe, meter):
    """The sandbox with usage of one customer in each of the last 250 hours; the meter on it."""
    opened = meter(stripe)
    for hours in range(1, 251):
        opened.client.v1.billing.meter_events.create(
            {
                "event_name": "credits",
                "timestamp": NOW_S - hours * HOUR_S,
                "payload": {"stripe_customer_id": "cus_1", "value": str(hours)},
            }
        )
    opened.requests = 0
    return opened


def refusal(status, **error):
    return Answers(status, json.dumps({"error": {"type": "invalid_request_error", **error}}).encode())


def event(**data):
    """The answer to a report that is fetched."""
    body = {"id": "evt_1", "object": "v2.core.event", "type": ERROR_REPORT, "created": "2026-11-23T12:00:12Z"}
    return Answers(200, json.dumps({**body, "livemode": False, "data": data}).encode())


# ---- summaries


def test_hours_are_read_in_pages_of_a_hundred_and_each_is_counted(fill):
    """250 hours with usage are three requests; Stripe's default page of ten would give a wrong sum."""
    found = summaries(fill, "mtr_sandbox_0001", "cus_1", NOW_S - 300 * HOUR_S, NOW_S, "hour")

    assert fill.requests == 3
    assert found == {NOW_S - hours * HOUR_S: Value(hours, str(hours)) for hours in range(1, 251)}


@pytest.mark.parametrize(
    ("start_us", "end_us", "grouping", "expected"),
    [
        (NOW_US - 2 * HOUR_US, NOW_US, None, {NOW_S - 2 * HOUR_S: 1 + 2}),
        (NOW_US - HOUR_US, NOW_US - HOUR_US + 60 * SECOND_US, None, {NOW_S - HOUR_S: 1}),
        (NOW_US - 12 * HOUR_US - DAY_US, NOW_US + 12 * HOUR_US, "day", None),
    ],
)
def test_windows_are_minutes_hours_or_days(fill, start_us, end_us, grouping, expected):
    """The end is exclusive; without grouping the range is one window."""
    found = summaries(fill, "mtr_sandbox_0001", "cus_1", start_us // SECOND_US, end_us // SECOND_US, grouping)

    if expected is None:
        midnight = NOW_S - 12 * HOUR_S
        expected = {midnight - 24 * HOUR_S: sum(range(13, 37)), midnight: sum(range(1, 13))}
    assert {start: value.credits for start, value in found.items()} == expected


@pytest.mark.parametrize(
    ("number", "credits"),
    [(5.0, 5), (0.0, 0), (-3.0, -3), (999_999_999_999_999.0, 999_999_999_999_999), (5.5, None), (2.0**53, None)],
)
def test_only_whole_numbers_that_a_double_can_tell_are_credits(number, credits):
    """Anything else is evidence, kept as it was said."""
    assert value_of(number).credits == credits
    assert value_of(number).said == (str(credits) if credits is not None else repr(number))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_no_credits(number):
    """No arithmetic on what is none."""
    assert value_of(number).credits is None


def test_a_customer_whom_stripe_does_not_know_is_named(meter):
    """Not an empty sum: the key may be of the other mode."""
    unknown = refusal(404, code="resource_missing", param="customer", message="No such customer: 'cus_1'")

    with pytest.raises(NotFound, match="does not know the customer cus_1"):
        summaries(meter(unknown), "mtr_1", "cus_1", 0, HOUR_S, "hour")


@pytest.mark.parametrize(
    ("service", "error", "asked"),
    [
        (refusal(404, code="resource_missing", param="id", message="No such meter"), Unavailable, 1),
        (refusal(403, message="not permitted"), KeyRefused, 1),
        (Answers(200, b'{"object":"list"}'), Unavailable, READ_ATTEMPTS_MAX),
        (Answers(200, b'{"object":"list","has_more":false,"data":[{"id":"x"}]}'), Unavailable, READ_ATTEMPTS_MAX),
        (Answers(200, b"<html>"), Unavailable, READ_ATTEMPTS_MAX),
        (Answers(500, b"{}"), Unavailable, READ_ATTEMPTS_MAX),
    ],
)
def test_what_is_no_summary_is_an_error_after_a_few_attempts(meter, service, error, asked):
    """Never a sum of nothing."""
    with pytest.raises(error):
        summaries(meter(service), "mtr_1", "cus_1", 0, HOUR_S, "hour")

    assert service.seen == asked


# ---- reports


def test_a_report_is_read_with_its_codes_counts_and_samples(meter):
    """Samples name an identifier or an idempotency key; a message is cut; a count is at least that of its samples."""
    samples = [
        {"error_message": "m" * 1000, "request": {"identifier": "tm-1"}},
        {"error_message": "n", "request": {"idempotency_key": "tm-2:1"}},
        {"request": {}},
    ]
    errors = [{"code": "no_meter", "error_count": 1, "sample_errors": samples}, {"code": "new", "error_count": 4}]
    service = event(**WINDOW, reason={"error_count": 9, "error_types": errors})

    report = fetch_report(meter(service), NOTIFICATION, {"mtr_1": "credits"})

    assert (report.meter, report.start_us, report.end_us - report.start_us) == ("credits", NOW_US, 10 * SECOND_US)
    named = (Sample("tm-1", "m" * 300), Sample("tm-2:1", "n"), Sample("", ""))
    assert report.errors == (
        ReportedError("no_meter", 3, named),
        ReportedError("new", 4, ()),
        ReportedError("unknown", 2, ()),
    )
    assert report.count == 9


@pytest.mark.parametrize(
    "service",
    [
        refusal(404, code="not_found", message="No such event"),
        event(),
        event(**WINDOW, reason=None),
        event(**WINDOW, reason={"error_types": [{"error_count": 1}]}),
        event(validation_start="now", validation_end="then", reason={}),
    ],
)
def test_a_report_that_cannot_be_read_speaks_of_one_and_names_none(meter, service):
    """It is not lost: the meter events that it may mean are told apart by sums."""
    report = fetch_report(meter(service), NOTIFICATION, {})

    assert report.errors == (ReportedError("unknown", 1, ()),)
    assert (report.start_us, report.end_us, report.meter) == (NOW_US, NOW_US, "")


@pytest.mark.parametrize("body", [b"{}", b'{"data":[{"id":"evt_1"}],"next_page_url":null}', b"[]", b"<html>"])
def test_a_list_that_is_none_is_an_error(meter, body):
    """Not a list of nothing, after which nothing would be asked again."""
    with pytest.raises(Unavailable):
        list(new_notifications(meter(Answers(200, body)), 0))


def test_a_list_is_followed_to_its_last_page(meter):
    """By the address that Stripe gives for the next one."""
    service = TwoPages()

    found = list(new_notifications(meter(service), NOW_US))

    assert [one.notification_id for one in found] == ["evt_1", "evt_2"]
    assert service.paths == ["/v2/core/events", "/v2/core/events"]
    assert dict(service.queries[0])["created[gt]"] == "2026-11-23T12:00:00.000Z"
    assert service.queries[1] == (("page", "two"),)


class TwoPages:
    """Two reports, on a page each; the second names no meter."""

    def __init__(self):
        self.paths, self.queries = [], []

    def handle(self, request):
        self.paths.append(request.path)
        self.queries.append(request.query)
        first = len(self.paths) == 1
        one = {"id": "evt_1" if first else "evt_2", "object": "v2.core.event", "created": "2026-11-23T12:00:12Z"}
        one |= {"type": ERROR_REPORT, "livemode": False, "related_object": {"id": "mtr_1"} if first else None}
        page = {"data": [one], "next_page_url": "/v2/core/events?page=two" if first else None}
        return Response(200, json.dumps(page).encode(), JSON)
