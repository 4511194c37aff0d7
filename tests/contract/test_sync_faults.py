"""Everything that can go wrong on the way to either service: the tally stays exact, and no trace is lost."""

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT, no_summaries
from databases import DATABASES
from tallymark.core.clock import DAY_US, SECOND_US
from tallymark.errors import KeyRefused, RemoteError
from tallymark.meter.stripe_events import StripeMeter
from tallymark.sandbox.faults import Fault, Faults, nth
from tallymark.sandbox.story import expect, tell
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Response

pytestmark = pytest.mark.databases(*DATABASES)

METER_EVENTS = "/v1/billing/meter_events"
EVERY_FAULT = {
    Fault.RATE_LIMITED: 0.05,
    Fault.ERROR_BEFORE: 0.05,
    Fault.ERROR_AFTER: 0.05,
    Fault.RESET_BEFORE: 0.05,
    Fault.RESET_AFTER: 0.05,
    Fault.TRUNCATED: 0.05,
    Fault.HTML: 0.05,
}
BAD_DAY = {fault: 2 * rate for fault, rate in EVERY_FAULT.items()}


def is_meter_event(request):
    return request.path == METER_EVENTS


@pytest.fixture
def story(langfuse):
    """The sandbox filled with a story; what it should come to."""
    for told in tell(150, NOW_US):
        langfuse.put_trace(PROJECT, told.trace, told.observations)
    return expect(told for told in tell(150, NOW_US))


def run_until_done(run, settings, runs_max=8):
    """Sync until a run leaves nothing open; a service that is down for a run is no reason to stop."""
    for _ in range(runs_max):
        try:
            summary = run(settings, from_us=NOW_US - 40 * DAY_US)
        except RemoteError:
            continue
        if not summary.failed and not summary.marks.failed:
            return summary
    raise AssertionError(f"not done after {runs_max} runs")


@pytest.mark.parametrize("seed", range(4))
def test_faults_on_the_way_to_stripe_leave_the_tally_exact(story, run, settings, balance, stripe, seed):
    """429, 5xx before and after counting, resets before and after, cut answers, HTML: billed once (G1, G4)."""
    faults = Faults(seed, BAD_DAY, only=is_meter_event)

    run_until_done(run, settings(stripe_faults=faults))

    assert balance() == dict(story.micros)
    assert len(faults.done) == len(BAD_DAY)
    assert max(stripe.max_in_flight().values()) == 1


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_each_fault_of_stripe_alone(put, run, settings, stripe, look, fault):
    """The first send of every meter event meets it; the second delivers, with the same identifier."""
    for number in range(4):
        put(f"t{number}", customer=f"cus_{number}")
    faults = Faults(0, {fault: 1}, only=is_meter_event, limit=4)

    summary = run(settings(stripe_faults=faults))

    assert summary.processed == 4
    assert stripe.tally() == {(f"cus_{number}", "credits"): CREDITS_OF_A_TRACE for number in range(4)}
    counted_unseen = fault in (Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.TRUNCATED)
    assert summary.meter_events.duplicate == (4 if counted_unseen else 0)
    assert look("select distinct attempt from meter_event") == [(2,)]
    first_answer = "throttled" if fault is Fault.RATE_LIMITED else "unknown"
    assert look("select distinct outcome from attempt where attempt = 1") == [(first_answer,)]


def test_a_throttled_send_waits_for_its_retry_after(put, run, settings, clock, stripe):
    """429 with Retry-After: 7: not taken, so nothing is in doubt, and not hammered."""
    put("t1")
    faults = Faults(0, {Fault.RATE_LIMITED: 1}, only=is_meter_event, limit=3, retry_after_seconds=7)

    assert run(settings(stripe_faults=faults)).processed == 1
    assert stripe.counts()["POST /v1/billing/meter_events"] == 1
    assert clock.now_us() - NOW_US >= 3 * 7 * SECOND_US


@pytest.mark.parametrize("counted", [True, False])
def test_a_500_that_stripe_stored_under_the_idempotency_key_is_got_over(put, run, stripe, counted):
    """The same key would get the same 500 for a day (facts/stripe.md section 6): every attempt has its own."""
    put("t1")
    stripe.break_next(3, counted=counted)

    assert run().processed == 1
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_stripe_that_stays_away_loses_nothing(put, run, settings, stripe, look):
    """The run ends, the traces are failed, nothing is marked; the next run sends what was fixed before."""
    put("t1")
    away = settings(stripe_faults=Faults(0, {Fault.ERROR_AFTER: 1}, only=is_meter_event))

    summary = run(away)
    assert (summary.processed, summary.failed, summary.marks.written) == (0, 1, 0)
    assert summary.failures[0].trace_id == "t1"
    assert "500" in summary.failures[0].error
    (identifier,) = look("select meter_event_id from meter_event")[0]

    summary = run()
    assert (summary.processed, summary.failed, summary.marks.written) == (1, 0, 1)
    assert summary.meter_events.duplicate == 1
    assert [one.identifier for one in stripe.meter_events()] == [identifier]


def test_an_unanswered_send_of_yesterday_is_in_doubt_and_never_repeated(put, run, settings, clock, stripe):
    """Stripe forgets identifiers after a day: then only its summaries, or a person, may decide (G1)."""
    put("t1")
    run(settings(stripe_faults=Faults(0, {Fault.RESET_AFTER: 1}, only=is_meter_event)))
    clock.advance(24 * 3600)
    unable_to_ask = settings(stripe_faults=no_summaries())

    summary = run(unable_to_ask, full=True)

    assert (summary.held["in_doubt"], summary.meter_events.in_doubt, summary.processed) == (1, 1, 0)
    run(unable_to_ask, full=True)
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_a_run_killed_while_sending_and_restarted_two_days_later_never_sends_again(
    put, run, settings, clock, stripe, monkeypatch
):
    """The claim was committed before the request left, so the ledger knows that it may have arrived."""
    put("t1")
    send = StripeMeter.send

    def send_and_die(meter, claim):
        send(meter, claim)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(StripeMeter, "send", send_and_die)
        run()
    clock.advance(2 * 86_400)

    summary = run(settings(stripe_faults=no_summaries()), full=True)

    assert summary.held["in_doubt"] == 1
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_a_run_killed_while_sending_and_restarted_soon_sends_again_under_the_same_identifier(
    put, run, clock, stripe, monkeypatch
):
    """A duplicate answer means delivered."""
    put("t1")
    send = StripeMeter.send

    def send_and_die(meter, claim):
        send(meter, claim)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(StripeMeter, "send", send_and_die)
        run()
    clock.advance(3600)

    summary = run(full=True)

    assert (summary.processed, summary.meter_events.duplicate) == (1, 1)
    assert stripe.tally() == {("cus_1", "credits"): CREDITS_OF_A_TRACE}


def test_stripes_rate_limit_is_kept_within(put, run, settings, clock, stripe):
    """25 requests a second in test mode: paced, not hammered."""
    limited = SandboxStripe(clock=clock, rate_limit_per_second=25)
    limited.add_meter("credits")
    for number in range(80):
        put(f"t{number}", customer=f"cus_{number}")

    summary = run(settings(bill_to=limited, BILLING_STRIPE_REQUESTS_PER_SECOND="", BILLING_LATE_PERIOD="send"))

    assert summary.processed == 80
    assert summary.requests.stripe <= 85
    assert clock.now_us() > NOW_US + 3 * SECOND_US


def test_a_key_that_is_refused_in_the_middle_of_sending_bills_once_it_is_mended(put, run, settings, stripe):
    """A revoked key ends the run with the setting's name, after every answer is stored."""
    put("t1")
    run()
    put("t2")
    with pytest.raises(KeyRefused, match="BILLING_STRIPE_SECRET_KEY"):
        run(settings(STRIPE_SECRET_KEY="sk_test_revoked"))

    assert run().processed == 1
    assert stripe.tally() == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}


class RefusesOneCustomer:
    """A Stripe that refuses the key for the meter events of one customer, as a restricted key might be."""

    def __init__(self, service, customer):
        self.service, self.customer = service, customer

    def handle(self, request):
        if is_meter_event(request) and self.customer in request.body:
            return Response(403, b'{"error":{"type":"invalid_request_error","message":"not permitted"}}')
        return self.service.handle(request)


def test_what_was_answered_beside_a_refused_key_is_stored(put, run, settings, stripe, look):
    """Sent in one batch: the accepted stay accepted, the refused was certainly not counted and is no doubt."""
    for customer in ("cus_a", "cus_b", "cus_c"):
        put(customer, customer=customer)

    with pytest.raises(KeyRefused, match="BILLING_STRIPE_SECRET_KEY"):
        run(settings(bill_to=RefusesOneCustomer(stripe, b"cus_b")))

    assert look("select customer_id, state, unanswered_since_us from meter_event order by customer_id") == [
        ("cus_a", "accepted", None),
        ("cus_b", "pending", None),
        ("cus_c", "accepted", None),
    ]
    assert run().processed == 1
    assert set(stripe.tally().values()) == {CREDITS_OF_A_TRACE}


@pytest.mark.parametrize("seed", range(4))
def test_faults_on_the_way_to_langfuse_lose_no_trace(story, run, settings, balance, langfuse, seed):
    """Reading and marking through every fault: none lost, none twice, every mark there in the end (G2)."""
    faults = Faults(seed, BAD_DAY)

    run_until_done(run, settings(langfuse_faults=faults))

    assert balance() == dict(story.micros)
    assert faults.done.total() > 5
    unmarked = [row["id"] for row in langfuse.traces(PROJECT) if "billing:processed" not in row["tags"]]
    assert len(unmarked) == 150 - story.results["processed"] - story.results["already_processed"]


@pytest.mark.parametrize("seed", range(2))
def test_faults_everywhere_at_once(story, run, settings, balance, seed):
    """A bad day for both."""
    to = settings(
        langfuse_faults=Faults(seed, EVERY_FAULT), stripe_faults=Faults(seed + 100, EVERY_FAULT, only=is_meter_event)
    )

    run_until_done(run, to)

    assert balance() == dict(story.micros)


def test_a_mark_whose_answer_was_lost_is_written_once(put, run, settings, langfuse):
    """The server took it and the connection broke: repeated, and there is still one mark."""
    put("t1")
    faults = Faults.script([(nth(1, "POST", "/api/public/ingestion"), Fault.RESET_AFTER)])

    summary = run(settings(langfuse_faults=faults))

    assert (summary.marks.written, summary.marks.failed) == (1, 0)
    assert langfuse.trace(PROJECT, "t1")["tags"] == ["billing:pending", "billing:processed"]
    assert faults.done.total() == 1
