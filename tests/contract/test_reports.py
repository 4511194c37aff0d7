"""What Stripe took and did not count after all: reported, taken back, and billed once when the cause is mended."""

import contextlib
import json
import sqlite3
from urllib.parse import urlencode

import pytest

from builders import CREDITS_OF_A_TRACE, NOW_US, PROJECT
from databases import DATABASES, SQLITE
from tallymark.api import explain
from tallymark.core.clock import SECOND_US
from tallymark.core.reports import ERROR_REPORT, ErrorReport, Notification, ReportedError, Sample
from tallymark.failpoints import Side, Step
from tallymark.flows.doctor import doctor
from tallymark.flows.held import held
from tallymark.ledger.corrections import Decided
from tallymark.ledger.reports import apply_report, put_notifications, reissue
from tallymark.ledger.rows import RunRef
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Request
from tallymark.show import show_explanation, show_sync
from tallymark.show_held import show_held

pytestmark = pytest.mark.databases(*DATABASES)

SENDS = "POST /v1/billing/meter_events"
POLLS = "GET /v2/core/events"
CUSTOMERS = "GET /v1/customers/{id}"
SUMMARIES = "GET /v1/billing/meters/{id}/event_summaries"
KEY = {"authorization": "Bearer sk_test_sandbox"}
ONE_TRACE = {("cus_1", "credits"): CREDITS_OF_A_TRACE}
QUARTER_SECONDS = 15 * 60


@pytest.fixture
def account(clock):
    """A function that makes a Stripe account with the meter "credits"."""

    def make(**options):
        stripe = SandboxStripe(clock=clock, **options)
        stripe.add_meter("credits")
        return stripe

    return make


@pytest.fixture
def strict(account):
    """An account that knows no customer, and says so only after it has answered 200."""
    return account(any_customer=False)


@pytest.fixture
def sync(run, settings, clock):
    """A function: sync with an account, and let a quarter of an hour pass."""

    def once(stripe, **request):
        changes, then = request.pop("changes", {}), request.pop("then", None)
        summary = run(settings(bill_to=stripe, **changes), **request)
        if then is not None:
            then()
        clock.advance(QUARTER_SECONDS)
        return summary

    return once


@pytest.fixture
def write_to(clock):
    """A function by which someone else sends a meter event to an account."""

    def send(stripe, identifier, event_name="credits", customer="cus_9"):
        form = {"event_name": event_name, "identifier": identifier, "timestamp": clock.now_us() // SECOND_US}
        form |= {"payload[stripe_customer_id]": customer, "payload[value]": "3"}
        assert (
            stripe.handle(Request("POST", "/v1/billing/meter_events", (), KEY, urlencode(form).encode())).status == 200
        )

    return send


def events(look, columns="state"):
    """Columns of the meter events, the oldest bucket first."""
    return look(f"select {columns} from meter_event order by timestamp_s, meter_event_id")


def notifications(look):
    return look("select state, reported, matched from notification order by created_at_us")


def tally_without_nothing(stripe):
    return {key: int(value) for key, value in stripe.tally().items() if value}


def apply(ledger, identifier, notification_id="evt_1"):
    """Apply a report that names one meter event; how many were taken back."""
    errors = (ReportedError("archived_meter", 1, (Sample(identifier, "it is inactive"),)),)
    put_notifications(ledger, [Notification(notification_id, ERROR_REPORT, NOW_US, "mtr_1")], NOW_US)
    report = ErrorReport(notification_id, ERROR_REPORT, "mtr_1", "credits", NOW_US, NOW_US, errors)
    return apply_report(ledger, report, NOW_US)


def change(ledger, statement):
    """Change the ledger's tables behind its back."""
    with ledger.transaction(Step.PUT_FACT) as database:
        database._connection.execute(statement)


def switch(stripe, verb):
    """Deactivate or reactivate the meter."""
    assert stripe.handle(Request("POST", f"/v1/billing/meters/mtr_sandbox_0001/{verb}", (), KEY)).status == 200


# ---- the cause is mended


@pytest.mark.parametrize("free", [True, False])
def test_usage_of_an_unknown_customer_is_billed_once_after_the_customer_is_created(
    put, sync, account, look, capsys, free
):
    """Taken, reported, taken back, and sent again under a new identifier, whether or not Stripe frees the old one."""
    stripe = account(any_customer=False, identifier_free_after_failure=free)
    put("t1")
    assert sync(stripe).meter_events.accepted == 1
    assert tally_without_nothing(stripe) == {}

    summary = sync(stripe)
    assert (summary.meter_events.reported, summary.meter_events.rejected, summary.meter_events.accepted) == (1, 1, 0)
    show_sync(summary)
    assert "1 rejected, 0 in doubt, 1 reported;" in capsys.readouterr().out
    assert events(look, "state, reason, reissue") == [("rejected", "meter_event_customer_not_found", 0)]
    assert sync(stripe).meter_events.accepted == 0

    stripe.add_customer("cus_1")
    summary = sync(stripe)
    assert (summary.meter_events.accepted, summary.meter_events.rejected) == (1, 0)
    assert tally_without_nothing(stripe) == ONE_TRACE
    (identifier,) = look("select meter_event_id from meter_event")[0]
    assert [one.identifier for one in stripe.meter_events()] == [identifier, f"{identifier}.1"]
    assert [sync(stripe, full=True).meter_events.accepted for _ in range(3)] == [0, 0, 0]
    assert tally_without_nothing(stripe) == ONE_TRACE
    assert notifications(look) == [("applied", 1, 1)]


def test_an_archived_meters_usage_is_billed_once_after_the_meter_is_active_again(put, sync, account, look):
    """Deactivated between the answer and Stripe's own check."""
    stripe = account()
    put("t1")
    sync(stripe, then=lambda: switch(stripe, "deactivate"))

    assert sync(stripe).meter_events.reported == 1
    assert events(look, "state, reason") == [("rejected", "archived_meter")]
    switch(stripe, "reactivate")

    assert sync(stripe).meter_events.accepted == 1
    assert tally_without_nothing(stripe) == ONE_TRACE


def test_what_is_mended_before_the_report_is_read_is_sent_by_the_same_run(put, sync, strict):
    """The customer was created a moment after the usage was sent."""
    put("t1")
    sync(strict)
    strict.add_customer("cus_1")

    summary = sync(strict)

    assert (summary.meter_events.reported, summary.meter_events.accepted) == (1, 1)
    assert tally_without_nothing(strict) == ONE_TRACE


def test_what_is_reported_again_and_again_is_held_for_a_person(put, sync, account, look):
    """The cause seems mended and is not: after three issues it is nobody's but a person's."""
    stripe = account()
    put("t1")
    stripe.reject_next(100, "meter_event_customer_not_found")

    for _ in range(8):
        sync(stripe)

    assert events(look, "state, reissue") == [("held", 3)]
    assert tally_without_nothing(stripe) == {}


@pytest.mark.parametrize(
    "code", ["meter_event_invalid_value", "timestamp_too_far_in_past", "missing_dimension_payload_keys", "a new word"]
)
def test_what_nobody_outside_can_mend_is_held_until_a_person_releases_it(put, sync, account, look, ledger, code):
    """Sending it as it is would be reported again; a person may say otherwise, and is named."""
    stripe = account()
    stripe.reject_next(1, code)
    put("t1")
    sync(stripe)
    assert sync(stripe).meter_events.reported == 1
    assert sync(stripe).meter_events.accepted == 0
    assert events(look, "state, reason") == [("held", code)]
    ((identifier, credits),) = events(look, "meter_event_id, credits")

    decided = Decided("ann", "release", "meter_event", identifier, credits * 1_000_000, "the meter was mended")
    assert reissue(ledger, RunRef("run", NOW_US, ""), identifier, decided, by_person=True)

    assert sync(stripe).meter_events.accepted == 1
    assert tally_without_nothing(stripe) == ONE_TRACE
    assert look("select who, verb from decision order by decision_id") == [("stripe", "report"), ("ann", "release")]
    assert look("select released_by from meter_event") == [(2,)]
    assert not reissue(ledger, RunRef("run", NOW_US, ""), identifier, decided, by_person=True)


@pytest.mark.databases(SQLITE)
def test_a_cause_is_looked_at_often_at_first_and_ever_less(put, sync, strict, clock):
    """A customer who is never created does not spend the month's reads."""
    put("t1")
    sync(strict)
    sync(strict)
    strict.clear_requests()

    for _ in range(4 * 24):
        sync(strict)
    first_day = strict.counts()[CUSTOMERS]
    clock.advance(6 * 86_400)
    strict.clear_requests()
    for _ in range(4 * 24):
        sync(strict)

    assert 20 < first_day < 40
    assert strict.counts()[CUSTOMERS] <= 2


# ---- marks and what is told


def test_marks_follow_the_money(put, sync, strict, look, langfuse, ledger):
    """Taken back, the trace waits again; its mark stays on it, and is written again when it is billed (G5)."""
    put("t1")
    assert sync(strict).marks.written == 1
    assert look("select mark_state from trace") == [("written",)]

    sync(strict)
    assert look("select mark_state from trace") == [("waiting",)]
    assert langfuse.trace(PROJECT, "t1")["tags"] == ["billing:pending", "billing:processed"]

    strict.add_customer("cus_1")
    summary = sync(strict, full=True)
    assert (summary.processed, summary.failed, summary.marks.written) == (1, 0, 1)
    assert look("select mark_state from trace") == [("written",)]


def test_a_reported_trace_that_is_read_again_is_failed(put, sync, strict):
    """Its usage is not billed: fetched = processed + failed + skipped + held, and a run that is not done says so."""
    put("t1")
    sync(strict)

    summary = sync(strict, full=True)

    assert (summary.fetched, summary.processed, summary.failed) == (1, 0, 1)
    assert "meter_event_customer_not_found: No such customer" in summary.failures[0].error
    assert summary.exit_status == 1


def test_explain_tells_the_story(put, sync, strict, settings, capsys):
    """The report, what was decided, and what Stripe knows the meter event by."""
    put("t1")
    sync(strict)
    sync(strict)
    strict.add_customer("cus_1")
    sync(strict)

    found = explain(settings(), "t1")
    (entry,) = found["projects"][0]["entries"]
    told = entry["meter_event"]
    assert (told["state"], told["sent_as"]) == ("accepted", told["identifier"] + ".1")
    assert [(one["who"], one["verb"], one["why"]) for one in told["decisions"]] == [
        ("stripe", "report", "meter_event_customer_not_found: No such customer: 'cus_1'"),
        ("tallymark", "reissue", "the customer cus_1 exists"),
    ]
    assert told["decisions"][0]["evidence"]["identifier"] == told["identifier"]
    assert [one["outcome"] for one in told["attempts"]] == ["accepted", "accepted"]
    show_explanation(found)
    assert "tallymark: reissue (the customer cus_1 exists)" in capsys.readouterr().out


def test_an_unanswered_send_that_a_report_names_is_no_doubt(put, run, settings, sync, strict, look, clock):
    """The report proves that Stripe took it and does not count it."""
    put("t1")
    unanswered = Faults(0, {Fault.RESET_AFTER: 1}, only=lambda request: request.path.endswith("/meter_events"))
    run(settings(bill_to=strict, stripe_faults=unanswered))
    clock.advance(QUARTER_SECONDS)

    assert sync(strict).meter_events.reported == 1
    assert events(look, "state, unanswered_since_us") == [("rejected", None)]
    clock.advance(30 * 3600)
    strict.add_customer("cus_1")

    assert sync(strict).meter_events.accepted == 1
    assert tally_without_nothing(strict) == ONE_TRACE


# ---- reports that name too few


def twelve_of_twenty(put, stripe, code="meter_event_customer_not_found"):
    """Twenty hours of usage, of which Stripe does not count the twelve oldest."""
    for hours in range(1, 21):
        put(f"t{hours:02}", minutes_ago=60 * hours)
    stripe.reject_next(12, code)


def test_a_report_of_twelve_that_names_five_is_found_whole(put, sync, account, look):
    """Five by name at once, seven by the sums of their hours an hour later; all are billed once."""
    stripe = account(error_samples_max=5)
    twelve_of_twenty(put, stripe)
    sync(stripe)

    summary = sync(stripe)
    assert summary.meter_events.reported == 5
    assert notifications(look) == [("open", 12, 5)]

    told = [sync(stripe).meter_events.reported for _ in range(4)]
    assert sum(told) == 7
    assert notifications(look) == [("applied", 12, 12)]
    sync(stripe)
    assert tally_without_nothing(stripe) == {("cus_1", "credits"): 20 * CREDITS_OF_A_TRACE}
    assert events(look, "state, reissue") == [("accepted", 1)] * 12 + [("accepted", 0)] * 8
    found = look("select count(*) from decision where verb = 'settle' and why like 'not counted: Stripe counts 0;%'")
    assert found == [(7,)]


def test_an_open_report_is_shown_until_it_is_explained(put, sync, account, settings, ledger, capsys):
    """How many it speaks of and how many were found: what is missing is not lost in silence."""
    stripe = account(error_samples_max=5)
    twelve_of_twenty(put, stripe)
    sync(stripe)
    summary = sync(stripe)

    found = held(ledger, settings(), None, 10)
    (report,) = found["reports"]
    assert (report["codes"], report["state"]) == (["meter_event_customer_not_found"], "open")
    assert (report["reported"], report["matched"], report["meter"]) == (12, 5, "mtr_sandbox_0001")
    assert (summary.meter_events.open_reports, summary.exit_status) == (1, 1)
    show_held(found)
    assert report["notification"] in capsys.readouterr().out

    for _ in range(5):
        sync(stripe)
    assert held(ledger, settings(), None, 10)["reports"] == []


def test_what_the_sums_leave_open_stays_open(put, sync, account, look, stripe):
    """Three traces of equal credits in one minute, one of them not counted and not named: nobody can say which."""
    stripe = account(error_samples_max=0)
    for number in range(3):
        put(f"t{number}")
    stripe.reject_next(1, "meter_event_customer_not_found")
    trace_buckets = {"BILLING_METER_BUCKET": "trace"}
    for _ in range(8):
        sync(stripe, changes=trace_buckets)

    assert notifications(look) == [("open", 1, 0)]
    assert {state for (state,) in events(look)} == {"accepted"}
    assert tally_without_nothing(stripe) == {("cus_1", "credits"): 2 * CREDITS_OF_A_TRACE}


def test_what_someone_else_lost_is_none_of_ours(put, sync, account, look, write_to):
    """The report names nobody, and the sums show that all of ours was counted: it is closed."""
    stripe = account(error_samples_max=0)
    put("t1")
    sync(stripe)
    stripe.reject_next(2, "meter_event_invalid_value")
    write_to(stripe, "other-1")
    write_to(stripe, "other-2")

    for _ in range(7):
        sync(stripe)

    assert notifications(look) == [("applied", 2, 0)]
    assert events(look, "state, reason") == [("accepted", "counted")]
    assert tally_without_nothing(stripe) == ONE_TRACE


def test_what_was_neither_answered_nor_counted_nor_named_is_taken_back(put, run, settings, sync, account, look, clock):
    """In doubt, and not in its hour's sum, while a report speaks of one more: it gets a new identifier."""
    stripe = account(error_samples_max=0)
    put("t1")
    stripe.reject_next(1, "meter_event_customer_not_found")
    unanswered = Faults(0, {Fault.RESET_AFTER: 1}, only=lambda request: request.path.endswith("/meter_events"))
    run(settings(bill_to=stripe, stripe_faults=unanswered))
    clock.advance(30 * 3600)

    for _ in range(3):
        sync(stripe)

    assert events(look, "state, reissue") == [("accepted", 1)]
    assert tally_without_nothing(stripe) == ONE_TRACE


# ---- whose meter events


def test_another_ledgers_meter_events_are_left_alone(put, sync, strict, look, tmp_path):
    """Two deployments on one account: both store the report, and only the one that sent takes anything back."""
    other = tmp_path / "other.sqlite3"
    theirs = {"BILLING_LEDGER_URL": f"sqlite:///{other}"}
    strict.add_customer("cus_2")
    put("t2", customer="cus_2")
    sync(strict, changes=theirs)
    put("t1")
    sync(strict)

    assert sync(strict).meter_events.reported == 1
    assert sync(strict, changes=theirs).meter_events.reported == 0
    with contextlib.closing(sqlite3.connect(other)) as database:
        assert database.execute("select state, reported, matched from notification").fetchall() == [("applied", 1, 0)]
        assert database.execute("select state from meter_event").fetchall() == [("accepted",)]


def test_a_report_of_a_meter_that_is_not_ours_is_stored_and_changes_nothing(put, sync, account, look, write_to):
    """Somebody else's meter of the same account."""
    stripe = account(error_samples_max=0)
    stripe.add_meter("others")
    put("t1")
    sync(stripe)
    stripe.reject_next(1)
    write_to(stripe, "other-1", event_name="others")

    for _ in range(2):
        sync(stripe)

    assert notifications(look) == [("applied", 1, 0)]
    assert events(look, "state, reason") == [("accepted", "")]


def test_a_report_without_a_meter_may_mean_any(put, sync, account, look):
    """No meter of that event name was found: the report has no related object."""
    stripe = account(error_samples_max=0)
    stripe.reject_next(1, "no_meter")
    put("t1")

    for _ in range(8):
        sync(stripe)

    assert look("select type, object_id, state from notification") == [
        ("v1.billing.meter.no_meter_found", "", "applied")
    ]
    assert tally_without_nothing(stripe) == ONE_TRACE


@pytest.mark.parametrize("name", ["{}", "{}:1", "{}.0"])
def test_a_sample_is_found_by_identifier_or_idempotency_key(put, sync, account, look, ledger, name):
    """Both stand for it in Stripe's examples (facts/stripe.md section 2)."""
    stripe = account()
    put("t1")
    sync(stripe)
    (identifier,) = look("select meter_event_id from meter_event")[0]

    assert apply(ledger, name.format(identifier)) == 1
    assert apply(ledger, name.format(identifier), "evt_2") == 0
    assert events(look, "state, reason") == [("rejected", "archived_meter")]
    assert look("select count(*) from decision") == [(1,)]


def test_a_report_on_an_earlier_issue_changes_nothing(put, sync, strict, look, ledger):
    """It comes late: the meter event was sent again since, under another identifier."""
    put("t1")
    sync(strict)
    sync(strict)
    strict.add_customer("cus_1")
    sync(strict)
    (identifier,) = look("select meter_event_id from meter_event")[0]

    assert apply(ledger, identifier, "evt_late") == 0
    assert events(look, "state, reissue") == [("accepted", 1)]
    assert look("select state, matched from notification where notification_id = 'evt_late'") == [("applied", 1)]


def test_a_meter_event_that_is_being_sent_is_taken_back_by_a_later_run(put, sync, account, look, ledger):
    """Its answer must be stored first: until then the report waits as it came."""
    stripe = account()
    put("t1")
    sync(stripe)
    (identifier,) = look("select meter_event_id from meter_event")[0]
    change(ledger, "update meter_event set state = 'sending'")
    assert apply(ledger, identifier) == 0
    assert look("select state from notification") == [("received",)]

    change(ledger, "update meter_event set state = 'accepted'")
    assert apply(ledger, identifier) == 1


# ---- polling


def test_reports_are_polled_every_ten_minutes_at_most(put, account, clock, run, settings):
    """Nothing is asked before anything was sent, and runs that follow one another ask once."""
    stripe = account()
    run(settings(bill_to=stripe))
    put("t1")
    for _ in range(10):
        run(settings(bill_to=stripe))
        clock.advance(60)
    assert POLLS not in stripe.counts()

    for _ in range(11):
        run(settings(bill_to=stripe))
        clock.advance(60)
    assert stripe.counts()[POLLS] == 2


def test_reports_of_many_windows_are_read_page_by_page(put, sync, account, look, clock, write_to):
    """More than a hundred, each with its own window of ten seconds."""
    stripe = account()
    put("t1")
    sync(stripe)
    for number in range(130):
        stripe.reject_next(1)
        write_to(stripe, f"other-{number}")
        clock.advance(10)
    stripe.clear_requests()

    sync(stripe)
    assert stripe.counts()[POLLS] == 2
    sync(stripe)

    assert look("select state, count(*) from notification group by state") == [("applied", 130)]


def test_a_report_that_is_polled_twice_is_fetched_once(put, sync, strict, look):
    """Polls overlap by an hour."""
    put("t1")
    for _ in range(5):
        sync(strict)

    assert strict.counts()[f"{POLLS}/{{id}}"] == 1


@pytest.mark.parametrize("kind", ["key", "server"])
def test_a_run_goes_on_where_events_cannot_be_read(put, sync, account, settings, run, clock, caplog, kind):
    """One warning, and everything else is done; the next run that can reads them all."""
    allowed = ("meter_events:write", "meters:read", "customers:read")
    stripe = account(any_customer=False, keys={"rk_test_narrow": allowed})
    put("t1")
    sync(stripe)
    put("t2", minutes_ago=55)
    faults = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.path.startswith("/v2/"))
    narrow = {"STRIPE_SECRET_KEY": "rk_test_narrow"} if kind == "key" else {"stripe_faults": faults}

    summary = run(settings(bill_to=stripe, **narrow), full=True)

    assert summary.meter_events.accepted == 1
    assert caplog.text.count("could not be read") == 1
    clock.advance(QUARTER_SECONDS)
    assert sync(stripe).meter_events.reported == 2


@pytest.mark.parametrize(("events", "status"), [((), "warning"), (("events:read",), "ok")])
def test_the_doctor_says_whether_the_key_may_read_events(settings, account, clock, events, status):
    """Without them, rejected usage would not be noticed: a warning, since everything else works."""
    key = {"rk_test_narrow": ("meter_events:write", "meters:read", "customers:read", *events)}

    found = doctor(settings(bill_to=account(keys=key), STRIPE_SECRET_KEY="rk_test_narrow"), clock)

    (told,) = [one for one in found if "not count" in one.detail]
    assert (told.check, told.status, told.exit_status) == ("stripe", status, 0)


def test_one_report_that_cannot_be_fetched_does_not_stop_the_others(put, run, settings, sync, account, look, clock):
    """It waits for a later run."""
    stripe = account(any_customer=False)
    for number in range(3):
        put(f"t{number}", customer=f"cus_{number}", minutes_ago=60 - number)
        run(settings(bill_to=stripe), full=True)
        clock.advance(30)
    clock.advance(QUARTER_SECONDS)
    second = json.loads(stripe.notifications()[1])["id"]
    away = Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.path.endswith(second))

    assert run(settings(bill_to=stripe, stripe_faults=away)).meter_events.reported == 2
    assert look("select notification_id from notification where state = 'received'") == [(second,)]
    assert sync(stripe).meter_events.reported == 1


def test_a_dry_run_reads_no_reports(put, sync, strict):
    """It asks nothing and changes nothing."""
    put("t1")
    sync(strict)
    strict.clear_requests()

    sync(strict, dry_run=True)

    assert strict.counts() == {}


def test_a_report_that_stripe_has_forgotten_is_narrowed_by_sums(put, sync, strict, look, ledger):
    """Known from a webhook that could not be fetched in time: it speaks of one, and names none."""
    put("t1")
    sync(strict)
    put_notifications(ledger, [Notification("evt_gone", ERROR_REPORT, NOW_US, "mtr_sandbox_0001")], NOW_US)
    strict.add_customer("cus_1")

    for _ in range(6):
        sync(strict)

    assert tally_without_nothing(strict) == ONE_TRACE
    assert look("select state from notification where notification_id = 'evt_gone'") == [("applied",)]


# ---- crashes


@pytest.mark.parametrize("step", [Step.PUT_NOTIFICATIONS, Step.APPLY_REPORT, Step.CLOSE_REPORTS, Step.REISSUE])
@pytest.mark.parametrize("side", Side)
def test_a_process_that_ends_at_any_step_is_completed_by_the_next(put, sync, strict, look, stopped, step, side):
    """Stored and not applied, applied and not issued anew: in the end it is billed once."""
    put("t1")
    sync(strict)
    strict.add_customer("cus_1")
    with stopped(step, side):
        sync(strict)

    for _ in range(2):
        sync(strict)

    assert tally_without_nothing(strict) == ONE_TRACE
    assert events(look, "state, reissue") == [("accepted", 1)]
    assert notifications(look) == [("applied", 1, 1)]
