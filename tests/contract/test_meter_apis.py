"""The same story by each API for meter events, v1, v2 and the stream: Stripe counts what the ledger says, and once."""

import json

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US
from databases import DATABASES, SQLITE
from tallymark.api import explain
from tallymark.core.clock import SECOND_US
from tallymark.core.ids import batch_key
from tallymark.core.reports import ERROR_REPORT, ErrorReport, Notification, ReportedError, Sample
from tallymark.core.states import Answer, Claim
from tallymark.errors import KeyRefused
from tallymark.flows.reconcile import reconcile
from tallymark.ledger.reports import apply_report, open_reports, put_notifications
from tallymark.meter.stripe_events import StripeMeter
from tallymark.meter.stripe_stream import StripeStream
from tallymark.meter.stripe_v2 import StripeV2Meter
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Response

pytestmark = pytest.mark.databases(*DATABASES)

PATHS = {
    "v1": "/v1/billing/meter_events",
    "v2": "/v2/billing/meter_events",
    "stream": "/v2/billing/meter_event_stream",
}
SESSION = "/v2/billing/meter_event_session"
SUMMARIES = "GET /v1/billing/meters/{id}/event_summaries"
CUSTOMERS = 3
QUARTER_SECONDS = 15 * 60
on_every_api = pytest.mark.parametrize("api", PATHS)


def by(api):
    """The setting that chooses an API."""
    return {"BILLING_METER_API": api}


def faults_on(path, **rates):
    """Faults that meet requests of one path only."""
    limit = rates.pop("limit", None)
    plan = {Fault[name.upper()]: rate for name, rate in rates.items()}
    return Faults(0, plan, limit=limit, only=lambda request: request.path == path, hang_seconds=0.01)


@pytest.fixture
def usage(put):
    """Two traces of each of three customers, in two hours."""
    for number in range(2 * CUSTOMERS):
        put(f"t{number}", customer=f"cus_{number % CUSTOMERS}", minutes_ago=60 + 60 * (number // CUSTOMERS))
    return {(f"cus_{number}", "credits"): 2 * CREDITS_OF_A_TRACE for number in range(CUSTOMERS)}


@pytest.fixture
def ledger_of(look):
    """A function: what each customer was billed by what the ledger holds for accepted, and the states of the others."""

    def read():
        accepted = look(
            "select customer_id, meter, sum(credits) from meter_event where state = 'accepted' group by 1, 2"
        )
        others = look("select state, count(*) from meter_event where state <> 'accepted' group by 1")
        return {(customer, meter): int(credits) for customer, meter, credits in accepted}, dict(others)

    return read


# ---- the story


@on_every_api
def test_every_trace_is_counted_once(api, usage, run, settings, stripe, ledger_of):
    """Stripe's own tally is the ledger's; a second run sends nothing."""
    summary = run(settings(**by(api)))
    sends = stripe.counts()[f"POST {PATHS[api]}"]
    again = run(settings(**by(api)), full=True)

    assert stripe.tally() == usage
    assert ledger_of() == (usage, {})
    assert (summary.processed, summary.failed, summary.exit_status) == (6, 0, 0)
    assert again.skipped["already_processed"] == 6
    assert stripe.counts()[f"POST {PATHS[api]}"] == sends


@pytest.mark.databases(SQLITE)
@on_every_api
@pytest.mark.parametrize(
    "fault", ["reset_after", "reset_before", "error_after", "error_before", "rate_limited", "html"]
)
def test_what_goes_wrong_on_the_way_is_repeated_once_counted(api, fault, usage, run, settings, stripe, ledger_of):
    """Lost requests, lost answers, 5xx and 429 alike: sent again under the same identifiers, and counted once."""
    summary = run(settings(stripe_faults=faults_on(PATHS[api], **{fault: 1}, limit=2), **by(api)))

    assert stripe.tally() == usage
    assert ledger_of() == (usage, {})
    assert (summary.processed, summary.exit_status) == (6, 0)


@on_every_api
def test_what_is_rejected_later_is_noticed_and_billed_when_mended(api, put, run, settings, clock, look):
    """One of two customers does not exist: the other's usage is counted; it is billed once when it exists."""
    stripe = SandboxStripe(clock=clock, any_customer=False)
    stripe.add_meter("credits")
    stripe.add_customer("cus_1")
    put("good")
    put("bad", customer="cus_2")
    to = settings(bill_to=stripe, **by(api))
    run(to)
    clock.advance(QUARTER_SECONDS)

    noticed = run(to)

    assert dict(look("select customer_id, state from meter_event")) == {"cus_1": "accepted", "cus_2": "rejected"}
    assert (noticed.meter_events.reported, noticed.exit_status) == (1, 1)

    stripe.add_customer("cus_2")
    clock.advance(QUARTER_SECONDS)
    run(to)

    assert {key: int(value) for key, value in stripe.tally().items()} == {
        ("cus_1", "credits"): CREDITS_OF_A_TRACE,
        ("cus_2", "credits"): CREDITS_OF_A_TRACE,
    }
    assert dict(look("select customer_id, state from meter_event")) == {"cus_1": "accepted", "cus_2": "accepted"}


def test_v2_says_by_code_what_v1_says_in_words(serving, stripe, clock):
    """Duplicate, no such meter, an inactive one, no good value: each its outcome."""
    meter = StripeV2Meter(StripeMeter("sk_test_sandbox", clock, api_base=serving(stripe), requests_per_second=10**6))
    stripe.add_meter("closed", active=False)

    assert meter.send(claim()).answer is Answer.ACCEPTED
    assert meter.send(claim(attempt=2)).answer is Answer.DUPLICATE
    for wrong in (claim("b", meter="nowhere"), claim("c", meter="closed"), claim("d", credits=10**15)):
        assert meter.send(wrong).answer is Answer.REJECTED
    assert stripe.tally() == {("cus_1", "credits"): 5}


def claim(name="a", *, meter="credits", credits=5, attempt=1, customer="cus_1"):
    """A claim as the ledger makes it."""
    at_s = NOW_US // SECOND_US
    return Claim(name, name, customer, meter, at_s, credits, "{}", attempt, f"{name}:{attempt}", None, NOW_US)


# ---- the stream: proof by sums


def test_a_hundred_are_one_call_and_a_hundred_hours_one_proof(put, run, settings, stripe):
    """120 customers are two calls under one session; each customer's sums are read once."""
    for number in range(120):
        put(f"t{number}", customer=f"cus_{number}")

    run(settings(**by("stream")))

    counts = stripe.counts()
    assert (counts[f"POST {PATHS['stream']}"], counts[f"POST {SESSION}"]) == (2, 1)
    assert counts[SUMMARIES] == 120


def test_what_no_sum_shows_yet_is_no_alarm(usage, run, settings, clock, ledger_of):
    """Stripe's sums lag by an hour: streamed, processed, unmarked, exit 0; proved and marked when they show."""
    slow = SandboxStripe(clock=clock, summary_lag_seconds=3600)
    slow.add_meter("credits")
    to = settings(bill_to=slow, **by("stream"))

    first = run(to)

    assert (first.processed, first.failed, first.held["in_doubt"], first.exit_status) == (6, 0, 0, 0)
    assert (first.meter_events.streamed, first.meter_events.in_doubt, first.marks.written) == (6, 0, 0)
    assert ledger_of() == ({}, {"streamed": 6})
    assert reconcile(to, clock=clock)[0].explained

    clock.advance(2 * 3600)
    second = run(to)

    assert (second.meter_events.settled, second.meter_events.streamed, second.marks.written) == (6, 0, 6)
    assert ledger_of() == (usage, {})
    assert slow.counts()[f"POST {PATHS['stream']}"] == 2


class Losing:
    """A Stripe that answers the first call to the stream with a certain value in it, and loses it."""

    def __init__(self, service, value):
        self.service, self.lost = service, f'"value":"{value}"'.encode()

    def handle(self, request):
        if request.path == PATHS["stream"] and self.lost and self.lost in request.body.replace(b'": "', b'":"'):
            self.lost = b""
            return Response(200, b"{}", {"content-type": "application/json"})
        return self.service.handle(request)


def test_what_the_stream_lost_is_sent_again_only_when_the_sums_are_an_hour_old(put, run, settings, stripe, clock, look):
    """Two of one hour, and the sum shows one: it might still grow. An hour later the other is sent again, as it was."""
    put("kept", minutes_ago=70)
    put("lost", minutes_ago=62, cost="0.02")
    to = settings(bill_to=Losing(stripe, 750), **by("stream"), BILLING_METER_BUCKET="minute")

    young = run(to)
    assert (young.meter_events.streamed, stripe.tally()) == (2, {("cus_1", "credits"): 500})
    clock.advance(1800)
    assert run(to).meter_events.streamed == 2

    clock.advance(1801)
    old = run(to)
    clock.advance(60)
    run(to)

    assert (old.meter_events.settled, old.exit_status) == (2, 0)
    assert stripe.tally() == {("cus_1", "credits"): 1250}
    assert look("select credits, state, attempt from meter_event order by credits") == [
        (500, "accepted", 1),
        (750, "accepted", 2),
    ]
    assert len({one.identifier for one in stripe.meter_events()}) == len(stripe.meter_events()) == 2


def test_what_the_sums_cannot_tell_in_a_day_is_in_doubt(put, run, settings, stripe, clock, look):
    """Of two of equal credits in one minute, one is counted: then it is an alarm, and nothing is sent again blindly."""
    put("a", minutes_ago=61)
    put("b", minutes_ago=61)
    to = settings(bill_to=Losing(stripe, 500), **by("stream"), BILLING_METER_BUCKET="trace")
    run(to)
    for hours in (2, 20):
        clock.advance(hours * 3600)
        summary = run(to)
        assert (summary.meter_events.streamed, summary.meter_events.in_doubt, summary.exit_status) == (2, 0, 0)

    clock.advance(2 * 3600)
    summary = run(to)

    assert (summary.meter_events.streamed, summary.meter_events.in_doubt, summary.exit_status) == (0, 2, 1)
    assert look("select state, attempt from meter_event") == [("in_doubt", 1)] * 2
    assert stripe.tally() == {("cus_1", "credits"): 500}


def test_explain_tells_that_a_sum_is_awaited(put, run, settings, clock):
    """State and attempt are "streamed"; nothing says that it is accepted."""
    slow = SandboxStripe(clock=clock, summary_lag_seconds=3600)
    slow.add_meter("credits")
    put("t1")
    run(settings(bill_to=slow, **by("stream")))

    (entry,) = explain(settings(), "t1")["projects"][0]["entries"]

    assert entry["meter_event"]["state"] == "streamed"
    assert [attempt["outcome"] for attempt in entry["meter_event"]["attempts"]] == ["streamed"]


# ---- the stream: sessions


@pytest.fixture
def streaming(serving, clock):
    """A function that makes the stream of a served account."""

    def make(service, faults=None, key="sk_test_sandbox"):
        url = serving(service, faults)
        return StripeStream(StripeMeter(key, clock, api_base=url, requests_per_second=10**6), clock, base=url)

    return make


def answers(outcomes):
    return [outcome.answer for outcome in outcomes]


@pytest.mark.databases(SQLITE)
def test_a_session_is_renewed_before_its_end_and_when_it_is_refused(streaming, stripe, clock):
    """Two sessions by time without one 401; a third where Stripe ended it early; nothing is lost or counted twice."""
    stream = streaming(stripe)
    for name, seconds in (("a", 0), ("b", 12 * 60), ("c", 2 * 60)):
        clock.advance(seconds)
        assert answers(stream.send_batch([claim(name)])) == [Answer.STREAMED]
    assert stripe.counts()[f"POST {SESSION}"] == 2
    assert {request.status for request in stripe.requests()} == {200}

    stripe.expire_sessions()

    assert answers(stream.send_batch([claim("d"), claim("e", customer="cus_2")])) == [Answer.STREAMED] * 2
    assert stripe.counts()[f"POST {SESSION}"] == 3
    assert [request.status for request in stripe.requests()].count(401) == 1
    assert stripe.tally() == {("cus_1", "credits"): 20, ("cus_2", "credits"): 5}


@pytest.mark.databases(SQLITE)
def test_without_a_session_nothing_was_sent(streaming, stripe):
    """A session's lost answer is no doubt: come again. A key that is refused ends the run."""
    stream = streaming(stripe, faults_on(SESSION, reset_after=1, limit=1))

    (lost,) = stream.send_batch([claim()])

    assert lost.answer is Answer.THROTTLED
    assert stripe.meter_events() == []
    assert answers(stream.send_batch([claim()])) == [Answer.STREAMED]
    with pytest.raises(KeyRefused):
        streaming(stripe, key="sk_test_wrong").send_batch([claim()])


class Choosy:
    """A Stripe that refuses each call to the stream with a certain identifier in it, and repeats the token it got."""

    def __init__(self, service, identifier):
        self.service, self.refused, self.tokens = service, f'"{identifier}"'.encode(), []

    def handle(self, request):
        if request.path == PATHS["stream"] and self.refused in request.body:
            self.tokens.append(request.headers["authorization"].removeprefix("Bearer "))
            body = json.dumps({"error": {"code": "invalid_fields", "message": f"no good: {self.tokens[-1]}"}})
            return Response(400, body.encode(), {"content-type": "application/json"})
        return self.service.handle(request)


@pytest.mark.databases(SQLITE)
def test_one_that_cannot_be_read_stops_no_other_and_no_token_is_told(streaming, stripe):
    """The call is halved until only that one is refused; what Stripe said of it holds no token."""
    choosy = Choosy(stripe, "c5")
    claims = [claim(f"c{number}", customer=f"cus_{number}") for number in range(9)]

    outcomes = streaming(choosy).send_batch(claims)

    assert [number for number, each in enumerate(answers(outcomes)) if each is not Answer.STREAMED] == [5]
    assert outcomes[5].answer is Answer.REJECTED
    assert len(stripe.tally()) == 8
    assert choosy.tokens[0] not in outcomes[5].detail
    assert "no good" in outcomes[5].detail


@pytest.mark.databases(SQLITE)
def test_a_report_that_names_only_a_call_leaves_it_to_the_sums(ledger):
    """Which of a hundred it means is not told: the report stays open, and none of them is taken back by name."""
    sample = Sample(batch_key("tm-x-1-y-0:1", 100), "No such customer")
    report = ErrorReport(
        "evt_1", ERROR_REPORT, "mtr_1", "credits", NOW_US, NOW_US, (ReportedError("archived_meter", 1, (sample,)),)
    )
    put_notifications(ledger, [Notification("evt_1", ERROR_REPORT, NOW_US, "mtr_1")], NOW_US)

    assert apply_report(ledger, report, NOW_US) == 0
    assert [one.stored.rest for one in open_reports(ledger, NOW_US)] == [1]


# ---- from one API to another


@pytest.mark.parametrize(("before", "after"), [("v1", "v2"), ("v2", "stream"), ("stream", "v1")])
@pytest.mark.parametrize("fault", ["reset_after", "reset_before"])
@pytest.mark.databases(SQLITE)
def test_what_has_no_answer_is_not_sent_by_another_api(
    before, after, fault, put, run, settings, stripe, clock, look, ledger_of
):
    """It may not know the identifier: in doubt, until the sums tell; counted once in the end."""
    put("t1")
    run(settings(stripe_faults=faults_on(PATHS[before], **{fault: 1}), **by(before)))
    to = settings(**by(after))
    stripe.clear_requests()

    doubtful = run(to)

    assert (doubtful.meter_events.in_doubt, doubtful.exit_status) == (1, 1)
    assert stripe.counts().get(f"POST {PATHS[after]}", 0) == 0

    clock.advance(2 * 3600)
    run(to)
    clock.advance(60)

    assert run(to).exit_status == 0
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}
    assert ledger_of() == (stripe.tally(), {})
    assert len(look("select 1 from attempt")) >= 1
