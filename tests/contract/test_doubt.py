"""Sends that were never answered, past Stripe's promise: its summaries settle them; nothing is sent blindly (G1)."""

import json
from urllib.parse import urlencode

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US
from databases import DATABASES, SQLITE
from tallymark.core.clock import HOUR_US, SECOND_US
from tallymark.failpoints import Side, Step
from tallymark.flows import doubt
from tallymark.flows.doubt import settle_doubts
from tallymark.flows.held import held
from tallymark.flows.reconcile import reconcile
from tallymark.flows.stations import open_stations
from tallymark.flows.sync import start_run
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Request, Response

pytestmark = pytest.mark.databases(*DATABASES)

METER_EVENTS = "/v1/billing/meter_events"
SENDS = f"POST {METER_EVENTS}"
SUMMARIES = "GET /v1/billing/meters/{id}/event_summaries"
KEY = {"authorization": "Bearer sk_test_sandbox"}
LATER_SECONDS = 30 * 3600
ONE_TRACE = {("cus_1", "credits"): CREDITS_OF_A_TRACE}
TWO_TRACES = {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}


def is_meter_event(request):
    return request.path == METER_EVENTS


def unanswered(fault):
    """Faults that let no answer to a meter event through."""
    return Faults(0, {fault: 1}, only=is_meter_event, hang_seconds=0.01)


class SomeLost(Faults):
    """No meter event is answered, and those whose body holds a text never reach Stripe."""

    def __init__(self, text):
        super().__init__(0, {})
        self.text = text.encode()

    def next(self, request):
        if not is_meter_event(request):
            return None
        return Fault.RESET_BEFORE if self.text in request.body else Fault.RESET_AFTER


def is_summaries(request):
    return request.path.endswith("/event_summaries")


def no_summaries():
    """Faults that let nobody read event summaries."""
    return Faults(0, {Fault.ERROR_BEFORE: 1}, only=is_summaries)


@pytest.fixture
def in_doubt(run, settings, clock):
    """A function: sync, with no answer from Stripe, and let thirty hours pass."""

    def send(faults=None, **changes):
        run(settings(stripe_faults=faults or unanswered(Fault.RESET_AFTER), **changes))
        clock.advance(LATER_SECONDS)

    return send


@pytest.fixture
def write(stripe):
    """A function by which someone else writes to the meter."""

    def send(value, at_us, identifier="not ours"):
        form = {"event_name": "credits", "identifier": identifier, "timestamp": at_us // SECOND_US}
        form |= {"payload[stripe_customer_id]": "cus_1", "payload[value]": value}
        request = Request("POST", METER_EVENTS, (), KEY, urlencode(form).encode())
        assert stripe.handle(request).status == 200

    return send


def states(look):
    return [state for (state,) in look("select state from meter_event order by timestamp_s, revision")]


def decisions(look):
    return look("select who, verb, subject, amount_micros, why, detail from decision order by decision_id")


# ---- one answer only


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.HANG_AFTER, Fault.TRUNCATED])
def test_what_stripe_counted_and_never_answered_is_found_accepted(put, run, in_doubt, stripe, look, fault):
    """Thirty hours later it is not sent again, its window's value settles it, and its trace is marked."""
    put("t1")
    in_doubt(unanswered(fault))
    stripe.clear_requests()

    summary = run(full=True)

    assert SENDS not in stripe.counts()
    assert stripe.counts()[SUMMARIES] == 1
    assert stripe.tally() == ONE_TRACE
    assert (summary.processed, summary.held["in_doubt"], summary.marks.written) == (1, 0, 1)
    assert (summary.meter_events.settled, summary.meter_events.in_doubt, summary.meter_events.accepted) == (1, 0, 0)
    assert states(look) == ["accepted"]


@pytest.mark.parametrize("fault", [Fault.RESET_BEFORE, Fault.HANG_BEFORE, Fault.ERROR_BEFORE])
def test_what_stripe_never_got_is_sent_once(put, run, in_doubt, stripe, look, fault):
    """Its window is worth nothing, so it was not counted: sent again, under the identifier that it has."""
    put("t1")
    in_doubt(unanswered(fault))
    stripe.clear_requests()

    summary = run(full=True)

    assert stripe.counts()[SENDS] == 1
    assert stripe.tally() == ONE_TRACE
    assert (summary.processed, summary.meter_events.settled, summary.meter_events.accepted) == (1, 1, 1)
    assert [(one.identifier,) for one in stripe.meter_events()] == look("select meter_event_id from meter_event")
    assert run().meter_events.accepted == 0


def test_what_was_decided_is_a_line_with_its_evidence(put, run, in_doubt, look):
    """Who, what, how much, and the numbers that it rests on."""
    put("t1")
    in_doubt()
    run()

    ((who, verb, subject, micros, why, detail),) = decisions(look)

    assert (who, verb, micros) == ("tallymark", "settle", CREDITS_OF_A_TRACE * 1_000_000)
    assert [(subject,)] == look("select meter_event_id from meter_event")
    assert why.startswith("counted: Stripe counts 500; 0 are known to be counted, and 500 may be")
    evidence = json.loads(detail)
    assert evidence.pop("asked_at").startswith("2026-11-24T18:")
    assert evidence == {
        "customer": "cus_1",
        "meter": "credits",
        "window": ["2026-11-23T11:00:00.000Z", "2026-11-23T12:00:00.000Z"],
        "stripe": "500",
        "accepted": 0,
        "unknown": [{"identifier": subject, "credits": 500}],
        "unknown_in_all": 1,
    }


def test_some_were_counted_and_some_were_not(put, run, in_doubt, stripe):
    """Two hours of one customer, one arrived and one did not: each by its own window, in one question."""
    put("t1", minutes_ago=60)
    put("t2", minutes_ago=180)
    in_doubt(SomeLost(f"timestamp={(NOW_US - 3 * HOUR_US) // SECOND_US}"))
    assert stripe.tally() == ONE_TRACE
    stripe.clear_requests()

    summary = run()

    assert stripe.tally() == TWO_TRACES
    assert (stripe.counts()[SENDS], stripe.counts()[SUMMARIES]) == (1, 1)
    assert summary.meter_events.settled == 2


@pytest.mark.parametrize("bucket", ["minute", "hour", "day", "trace"])
@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.RESET_BEFORE])
def test_every_kind_of_bucket_is_settled(put, run, settings, in_doubt, stripe, look, bucket, fault):
    """Whatever the bucket, the hour of the timestamp is asked about."""
    for number in range(6):
        put(f"t{number}", minutes_ago=60 + 37 * number, customer=f"cus_{number % 2}")
    in_doubt(unanswered(fault), BILLING_METER_BUCKET=bucket)

    run(settings(BILLING_METER_BUCKET=bucket))

    assert stripe.tally() == {(f"cus_{n}", "credits"): 3 * CREDITS_OF_A_TRACE for n in (0, 1)}
    assert set(states(look)) == {"accepted"}


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.RESET_BEFORE])
def test_a_process_that_ends_while_it_settles_is_completed_by_the_next(
    put, run, in_doubt, stripe, stopped, fault, side
):
    """Settled or not when it ended, it is counted once."""
    put("t1")
    in_doubt(unanswered(fault))
    with stopped(Step.SETTLE_DOUBTS, side):
        run()

    run()

    assert stripe.tally() == ONE_TRACE


@pytest.mark.databases(SQLITE)
def test_windows_of_many_hours_are_read_in_pages_of_a_hundred(put, run, in_doubt, stripe, look):
    """130 hours of one customer in doubt: two pages, not 130 requests."""
    for hours in range(1, 131):
        put(f"t{hours}", minutes_ago=60 * hours)
    in_doubt()
    stripe.clear_requests()

    assert run().meter_events.settled == 130
    assert stripe.counts()[SUMMARIES] == 2
    assert SENDS not in stripe.counts()
    assert look("select count(*) from decision") == [(130,)]


# ---- several answers


def test_two_of_equal_credits_in_one_minute_wait_for_a_person_with_the_evidence(
    put, run, settings, in_doubt, clock, look, ledger, stripe
):
    """One of them was counted, and the numbers cannot say which: neither is sent, and the reason is told once."""
    put("t1")
    put("t2")
    in_doubt(SomeLost("t2"), BILLING_METER_BUCKET="trace")

    for _ in range(3):
        summary = run(settings(BILLING_METER_BUCKET="trace"), full=True)
        clock.advance(7 * 3600)

    assert stripe.tally() == ONE_TRACE
    assert (summary.held["in_doubt"], summary.meter_events.in_doubt, summary.exit_status) == (2, 2, 1)
    said = "Stripe counts 500; 0 are known to be counted, and 1000 may be: more than one answer fits"
    assert [(one["state"], one["answer"]) for one in held(ledger, settings(), None, 10)["meter_events"]] == [
        ("in_doubt", f"undecided: {said}")
    ] * 2
    assert [(verb, why) for _, verb, _, _, why, _ in decisions(look)] == [("ask", f"undecided: {said}")] * 2


def test_new_evidence_is_told_again(put, run, settings, in_doubt, clock, look, write):
    """When the numbers change, a further line says so."""
    put("t1")
    put("t2")
    in_doubt(SomeLost("t2"), BILLING_METER_BUCKET="trace")
    run(settings(BILLING_METER_BUCKET="trace"))
    write("7", NOW_US - HOUR_US)
    clock.advance(7 * 3600)

    run(settings(BILLING_METER_BUCKET="trace"))

    assert [why.partition(";")[0] for _, _, _, _, why, _ in decisions(look)] == [
        *["undecided: Stripe counts 500"] * 2,
        *["undecided: Stripe counts 507"] * 2,
    ]


def test_what_every_answer_agrees_about_is_settled(put, run, settings, in_doubt, look, stripe):
    """Two of 500 and one of 250 in one minute, 750 counted: the small one was, whichever of the others was too."""
    put("t1")
    put("t2")
    put("small", seconds=0)
    in_doubt(SomeLost("t2"), BILLING_METER_BUCKET="trace")
    assert stripe.tally() == {("cus_1", "credits"): 750}

    run(settings(BILLING_METER_BUCKET="trace"))

    assert look("select credits, state from meter_event order by credits") == [
        (250, "accepted"),
        (500, "in_doubt"),
        (500, "in_doubt"),
    ]
    assert stripe.tally() == {("cus_1", "credits"): 750}


def test_different_credits_in_one_minute_are_told_apart(put, run, settings, in_doubt, stripe):
    """Only one choice adds up: what is missing is sent, once."""
    put("t1")
    put("t2", cost="0.02")
    in_doubt(SomeLost("t2"), BILLING_METER_BUCKET="trace")

    run(settings(BILLING_METER_BUCKET="trace"))

    assert stripe.tally() == {("cus_1", "credits"): 500 + 750}


def test_equal_credits_in_different_minutes_are_told_apart_by_the_minute(put, run, settings, in_doubt, stripe):
    """The hour allows several answers, its minutes one each."""
    for number in range(5):
        put(f"t{number}", minutes_ago=60 - number)
    in_doubt(SomeLost("t3"), BILLING_METER_BUCKET="trace")
    stripe.clear_requests()

    run(settings(BILLING_METER_BUCKET="trace"))

    assert stripe.tally() == {("cus_1", "credits"): 5 * CREDITS_OF_A_TRACE}
    assert (stripe.counts()[SENDS], stripe.counts()[SUMMARIES]) == (1, 6)


# ---- other writers, lags, margins


@pytest.mark.parametrize(
    ("value", "why"), [("7", "someone else writes"), ("-7", "no choice"), ("0.5", "no whole number")]
)
def test_another_writer_on_the_meter_leaves_it_in_doubt(put, run, in_doubt, write, stripe, look, value, why):
    """The numbers do not add up, so nothing is concluded from them."""
    put("t1")
    in_doubt()
    write(value, NOW_US - HOUR_US)
    stripe.clear_requests()

    summary = run()

    assert summary.meter_events.in_doubt == 1
    assert SENDS not in stripe.counts()
    assert why in look("select answer from meter_event")[0][0]


def test_less_than_was_accepted_leaves_it_in_doubt(put, run, in_doubt, write, stripe, look, clock):
    """Stripe lost something, or lags: no reason to send."""
    put("t1")
    run()
    put("t2")
    in_doubt()
    write("-600", NOW_US - HOUR_US)

    summary = run()

    assert summary.meter_events.in_doubt == 1
    assert "less than was accepted" in look("select answer from meter_event where state = 'in_doubt'")[0][0]


def test_nothing_is_asked_while_sums_may_lag(put, run, in_doubt, settings, clock, stripe, look):
    """Something was accepted in the window a moment ago: its value is asked an hour later, and settles the doubt."""
    lagging = SandboxStripe(clock=clock, summary_lag_seconds=50 * 60)
    lagging.add_meter("credits")
    put("t1")
    in_doubt(bill_to=lagging)
    put("t2")

    summary = run(settings(bill_to=lagging), full=True)
    assert (summary.meter_events.accepted, summary.meter_events.in_doubt) == (1, 1)
    assert SUMMARIES not in lagging.counts()

    clock.advance(3601)
    assert run(settings(bill_to=lagging)).meter_events.settled == 1
    assert lagging.tally() == TWO_TRACES
    assert states(look) == ["accepted", "accepted"]


def test_an_unanswered_one_beside_it_is_waited_for(put, run, in_doubt, settings, stripe, clock, look):
    """A further meter event of the same hour is unanswered too: the older doubt waits until that one is settled."""
    put("t1")
    in_doubt()
    put("t2")

    run(settings(stripe_faults=unanswered(Fault.RESET_BEFORE)), full=True)
    clock.advance(2 * 3600)
    assert settle(settings(), clock).accepted == 0
    assert states(look) == ["in_doubt", "pending"]

    run()
    clock.advance(6 * 3600)
    assert run().meter_events.settled == 1
    assert stripe.tally() == TWO_TRACES


def test_what_is_left_open_is_asked_again_after_six_hours(put, run, settings, in_doubt, stripe, clock):
    """Reads have an allowance (facts/stripe.md section 4), and runs come every few minutes."""
    put("t1")
    put("t2")
    in_doubt(SomeLost("t2"), BILLING_METER_BUCKET="trace")
    stripe.clear_requests()

    for _ in range(24):
        run(settings(BILLING_METER_BUCKET="trace"))
        clock.advance(15 * 60)

    # The hour, and then the minute that both lie in.
    assert stripe.counts()[SUMMARIES] == 2
    clock.advance(3600)
    run(settings(BILLING_METER_BUCKET="trace"))
    assert stripe.counts()[SUMMARIES] == 4


def test_repair_asks_at_once(put, settings, in_doubt, stripe, clock):
    """A person who repairs does not wait for the next time that a run would ask."""
    put("t1")
    put("t2")
    in_doubt(SomeLost("t2"), BILLING_METER_BUCKET="trace")
    stripe.clear_requests()

    reconcile(settings(BILLING_METER_BUCKET="trace"), clock=clock)
    asked = stripe.counts()[SUMMARIES]
    reconcile(settings(BILLING_METER_BUCKET="trace"), repair=True, clock=clock)

    # The comparison itself, and before it the hour and the minute in doubt.
    assert stripe.counts()[SUMMARIES] == 2 * asked + 2


def test_a_run_reads_within_its_budget_and_the_next_goes_on(put, run, in_doubt, stripe, monkeypatch):
    """A thousand customers in doubt do not spend the month's reads at once."""
    monkeypatch.setattr(doubt, "READS_MAX", 3)
    for number in range(8):
        put(f"t{number}", customer=f"cus_{number}")
    in_doubt()
    stripe.clear_requests()

    # One request of the three lists the meters.
    assert [run().meter_events.settled for _ in range(4)] == [2, 2, 2, 2]
    assert stripe.counts()[SUMMARIES] == 8


# ---- meters, and Stripe away


def settle(to, clock):
    """Only settle, as a run does after sending."""
    with open_stations(to, dry_run=False, clock=clock) as stations:
        return settle_doubts(stations, start_run(stations, "sync"))


@pytest.fixture
def deactivated(put, run, settings, in_doubt, clock):
    """A Stripe whose meter was deactivated after a meter event was in doubt."""
    account = SandboxStripe(clock=clock)
    meter = account.add_meter("credits")
    put("t1")
    in_doubt(bill_to=account)
    run(settings(bill_to=account, stripe_faults=no_summaries()))
    assert account.handle(Request("POST", f"/v1/billing/meters/{meter.id}/deactivate", (), KEY)).status == 200
    return account


def test_a_doubt_is_settled_while_the_meter_is_inactive(deactivated, settings, clock):
    """An inactive meter takes nothing, but its summaries are still read."""
    assert settle(settings(bill_to=deactivated), clock).accepted == 1


def test_an_event_name_whose_meter_was_replaced_is_read_from_both(deactivated, settings, clock):
    """What the old meter counted is counted."""
    deactivated.add_meter("credits")

    assert settle(settings(bill_to=deactivated), clock).accepted == 1


def test_a_dry_run_asks_nothing(put, run, in_doubt, stripe, look):
    """It writes nothing, and it reads nothing at Stripe."""
    put("t1")
    in_doubt()
    stripe.clear_requests()

    assert run(dry_run=True).meter_events.settled == 0
    assert stripe.counts() == {}


class KnowsNobody:
    """A Stripe that finds no customer when sums are asked for, as with a key of the other mode."""

    def __init__(self, service):
        self.service = service

    def handle(self, request):
        if is_summaries(request):
            error = {"type": "invalid_request_error", "code": "resource_missing", "param": "customer", "message": "No"}
            return Response(404, json.dumps({"error": error}).encode(), {"content-type": "application/json"})
        return self.service.handle(request)


def test_a_key_of_the_other_mode_settles_nothing(put, run, settings, in_doubt, stripe, look):
    """A customer who is unknown there says nothing about what was counted here."""
    put("t1")
    in_doubt()
    stripe.clear_requests()

    summary = run(settings(bill_to=KnowsNobody(stripe)))

    assert summary.meter_events.in_doubt == 1
    assert SENDS not in stripe.counts()
    assert "no such customer" in look("select answer from meter_event")[0][0]


@pytest.mark.parametrize(
    "fault", [Fault.ERROR_BEFORE, Fault.RATE_LIMITED, Fault.HTML, Fault.RESET_AFTER, Fault.TRUNCATED]
)
def test_summaries_that_cannot_be_read_leave_all_as_it_is(put, run, settings, in_doubt, look, stripe, caplog, fault):
    """The run goes on and says so; the next one asks again, and a fault now and then is got over."""
    put("t1")
    in_doubt()

    summary = run(settings(stripe_faults=Faults(0, {fault: 1}, only=is_summaries)))

    assert (summary.meter_events.in_doubt, states(look)) == (1, ["in_doubt"])
    assert "could not be compared with Stripe" in caplog.text
    assert run(settings(stripe_faults=Faults(0, {fault: 1}, only=is_summaries, limit=2))).meter_events.settled == 1
    assert stripe.tally() == ONE_TRACE
