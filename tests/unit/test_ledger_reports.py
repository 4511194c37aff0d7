"""Doubts and reports in the ledger alone: each write is one transaction, and what it may not do is refused."""

import contextlib
import inspect

import pytest

from databases import DATABASES, everything
from ledger_lines import ACCEPTED, NOW_US, RUN, UNKNOWN, bill, claim_one, gather_all, later
from tallymark.core.clock import HOUR_US, SECOND_US
from tallymark.core.doubt import Value, Window
from tallymark.core.reports import ERROR_REPORT, ErrorReport, Notification, ReportedError, Sample
from tallymark.core.states import Answer, MeterOutcome
from tallymark.failpoints import Step
from tallymark.ledger import doubts, reports
from tallymark.ledger.corrections import Decided
from tallymark.ledger.doubts import Asked, Settled, doubt_streamed, questions, settle_window
from tallymark.ledger.reports import (
    Stored,
    apply_report,
    close_reports,
    offer_again,
    put_notifications,
    received,
    reissue,
    reported,
    suspects,
    unexplained_reports,
)

pytestmark = pytest.mark.databases(*DATABASES)
CUSTOMERS = ("doubtful", "accepted", "named")
LATER_US = NOW_US + 30 * HOUR_US
HOUR_S = 3600
ANSWERS = {"doubtful": UNKNOWN, "streamed": MeterOutcome(Answer.STREAMED, "received")}
BUCKET_S = (NOW_US - HOUR_US) // SECOND_US


def notification(name="evt_1"):
    return Notification(name, ERROR_REPORT, NOW_US, "mtr_1")


def report(*named, count, name="evt_1", code="meter_event_customer_not_found"):
    """A report of so many meter events that names some of them by their identifiers."""
    errors = (ReportedError(code, count, tuple(Sample(one, "no such customer") for one in named)),)
    return ErrorReport(name, ERROR_REPORT, "mtr_1", "credits", NOW_US, NOW_US, errors)


def identifier_of(look, customer):
    return look("select meter_event_id from meter_event where customer_id = ?", customer)[0][0]


@pytest.fixture
def used(ledger, look):
    """A ledger with a meter event in doubt, one that a report may mean, one that it names, and one streamed, of
    another meter; and a new report."""
    for customer in CUSTOMERS:
        bill(ledger, customer, customer=customer)
    bill(ledger, "streamed", customer="streamed", meter="tokens")
    gather_all(ledger)
    for claim in ledger.claim(NOW_US, 10):
        ledger.settle([(claim, ANSWERS.get(claim.customer_id, ACCEPTED))], later(1))
    ledger.claim(LATER_US, 10)
    put_notifications(ledger, [notification(), notification("evt_2")], NOW_US)
    apply_report(ledger, report(identifier_of(look, "named"), count=2), LATER_US)
    return ledger


def window(customer):
    return Window(customer, "credits", BUCKET_S, BUCKET_S + HOUR_S)


def asked(customer, value, last=True):
    return Asked(window(customer), Value(value, str(value)), LATER_US, last)


def decided(look, customer="named"):
    return Decided("ann", "reissue", "meter_event", identifier_of(look, customer), 2_000_000, "it is mended")


# Each writing function of the two modules, and how to make it write in the ledger of the fixture `used`.
WRITES = {
    "put_notifications": lambda ledger, look: put_notifications(ledger, [notification("evt_3")], NOW_US),
    "apply_report": lambda ledger, look: apply_report(
        ledger, report(identifier_of(look, "accepted"), count=1, name="evt_2"), LATER_US
    ),
    "close_reports": lambda ledger, look: close_after_all_was_counted(ledger),
    "offer_again": lambda ledger, look: offer_again(
        ledger, RUN, {identifier_of(look, "named"): decided(look)}, {identifier_of(look, "accepted"): LATER_US}
    ),
    "reissue": lambda ledger, look: reissue(ledger, RUN, identifier_of(look, "named"), decided(look)),
    "doubt_streamed": lambda ledger, look: doubt_streamed(ledger, LATER_US),
    "settle_window": lambda ledger, look: settle_window(ledger, RUN, asked("doubtful", 2), Settled()),
}


def close_after_all_was_counted(ledger):
    settle_window(ledger, RUN, asked("accepted", 2), Settled())
    settle_window(ledger, RUN, asked("doubtful", 2), Settled())
    close_reports(ledger, LATER_US)


def test_the_table_above_names_every_writing_function():
    """A function that opens a transaction cannot be added without being tested here."""
    writing = {
        name
        for module in (doubts, reports)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and "transaction(Step." in inspect.getsource(function)
    }

    assert set(WRITES) == writing


@pytest.mark.parametrize("name", WRITES)
def test_what_a_function_wrote_is_committed_when_it_returns(used, look, ledger_url, name):
    """A second connection sees it at once."""
    before = everything(ledger_url)

    WRITES[name](used, look)

    assert everything(ledger_url) != before


@pytest.mark.parametrize("name", WRITES)
def test_every_write_is_inside_the_functions_transaction(used, look, ledger_url, name, monkeypatch):
    """If the transaction is rolled back, a second connection sees nothing of it."""
    before = everything(ledger_url)
    begin = type(used._db).transaction

    @contextlib.contextmanager
    def rolled_back(database, step):
        with begin(database, step):
            yield
            raise RuntimeError("no commit")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="no commit"):
        patched.setattr(type(used._db), "transaction", rolled_back)
        WRITES[name](used, look)

    assert everything(ledger_url) == before


# ---- doubts


def test_an_answer_older_than_the_last_movement_settles_nothing(used, look):
    """Stripe counted 2 when it was asked; 2 more were accepted since, and are not the ones that it spoke of."""
    bill(used, "more", 2_000_000, customer="doubtful")
    gather_all(used)
    used.settle([(claim_one(used, LATER_US), ACCEPTED)], LATER_US + 1)

    settle_window(used, RUN, asked("doubtful", 2), Settled())

    assert look("select credits, state from meter_event where customer_id = 'doubtful' order by revision") == [
        (2, "in_doubt"),
        (2, "accepted"),
    ]


def test_what_a_person_settled_meanwhile_is_left_alone(used, look):
    """The state is looked at again in the transaction that changes it."""
    with used.transaction(Step.PUT_FACT) as database:
        database.write("set_state", meter_event_id=identifier_of(look, "doubtful"), state="cancelled", reason="by hand")

    settled = Settled()
    settle_window(used, RUN, asked("doubtful", 2), settled)

    assert (settled.accepted, settled.not_sent) == (0, 0)
    assert look("select state from meter_event where customer_id = 'doubtful'") == [("cancelled",)]


def test_an_undecided_window_is_looked_at_again_later_and_only_the_last_answer_is_kept(used, look):
    """By the hour it is only told where to look by the minute."""
    settled = Settled()
    settle_window(used, RUN, asked("doubtful", 1, last=False), settled)
    assert settled.left == [("doubtful", "credits", BUCKET_S)]
    assert look("select count(*) from decision where verb = 'ask'") == [(0,)]

    settle_window(used, RUN, asked("doubtful", 1), settled)
    assert look("select count(*) from decision where verb = 'ask'") == [(1,)]
    assert window("doubtful")[:2] not in {place[:2] for place in questions(used, LATER_US + HOUR_US)}
    assert window("doubtful")[:2] in {place[:2] for place in questions(used, LATER_US + 6 * HOUR_US)}


# ---- reports


def test_what_a_report_may_mean_is_under_suspicion_until_a_sum_shows_it(used, look):
    """Sent within a quarter of an hour of Stripe's check, accepted or unanswered, and not seen in a sum since."""
    assert {row["customer_id"] for row in suspects(used, LATER_US)} == {"accepted", "doubtful"}

    settle_window(used, RUN, asked("accepted", 2), Settled())

    assert {row["customer_id"] for row in suspects(used, LATER_US)} == {"doubtful"}
    assert look("select reason from meter_event where customer_id = 'accepted'") == [("counted",)]


@pytest.mark.parametrize(("minutes", "suspected"), [(14, True), (-14, True), (16, False), (-16, False)])
def test_a_report_of_another_time_means_nothing(used, minutes, suspected):
    """A quarter of an hour is far more than any published example."""
    close_after_all_was_counted(used)
    bill(used, "other", customer="other", minutes_ago=30)
    gather_all(used)
    moved_us = NOW_US + minutes * 60 * SECOND_US
    used.settle([(claim_one(used, moved_us), ACCEPTED)], moved_us)

    apply_report(used, report(count=1, name="evt_2"), LATER_US)

    assert [row["customer_id"] for row in suspects(used, LATER_US)] == (["other"] if suspected else [])


def test_only_as_many_are_taken_back_as_a_report_speaks_of(used, look):
    """Two are missing in the sums, one more is reported: the other stays in question."""
    apply_report(used, report(count=0, name="evt_2"), LATER_US)
    settle_window(used, RUN, asked("accepted", 0), Settled())
    settle_window(used, RUN, asked("doubtful", 0), Settled())

    assert look("select customer_id, state from meter_event where meter = 'credits' order by 1") == [
        ("accepted", "rejected"),
        ("doubtful", "pending"),
        ("named", "rejected"),
    ]
    assert look("select state, reported, matched from notification where notification_id = 'evt_1'") == [
        ("applied", 2, 2)
    ]


def test_one_in_doubt_that_was_not_counted_uses_up_no_report(used, look):
    """Whether it ever arrived nobody knows; the report may speak of the accepted one, which is looked for on."""
    apply_report(used, report(count=0, name="evt_2"), LATER_US)
    settle_window(used, RUN, asked("doubtful", 0), Settled())
    settle_window(used, RUN, asked("accepted", 0), Settled())

    assert look("select distinct state from meter_event where meter = 'credits'") == [("rejected",)]
    assert look("select state, reported, matched from notification where notification_id = 'evt_1'") == [
        ("applied", 2, 2)
    ]


def test_nothing_unnamed_is_taken_back_while_a_report_is_to_be_fetched(used, look):
    """It may name what is missing in the sums, and would then find it taken back for another report."""
    put_notifications(used, [notification("unfetched")], LATER_US)

    settle_window(used, RUN, asked("accepted", 0), Settled())
    apply_report(used, report(identifier_of(look, "accepted"), count=1, name="unfetched"), LATER_US)
    apply_report(used, report(count=0, name="evt_2"), LATER_US)

    assert look("select notification_id, state, matched from notification order by 1") == [
        ("evt_1", "open", 1),
        ("evt_2", "applied", 0),
        ("unfetched", "applied", 1),
    ]


def test_of_two_reports_that_of_the_last_send_is_meant(ledger, look):
    """The other one may be the only one that fits another meter event."""
    for customer in ("twice", "once"):
        bill(ledger, customer, customer=customer)
    gather_all(ledger)
    for claim in ledger.claim(NOW_US, 10):
        ledger.settle([(claim, UNKNOWN if claim.customer_id == "twice" else ACCEPTED)], later(1))
    ledger.settle([(claim_one(ledger, later(3600)), ACCEPTED)], later(3601))
    put_notifications(ledger, [notification("first"), notification("second")], NOW_US)
    for name, at_us in (("first", NOW_US), ("second", later(3600))):
        errors = (ReportedError("archived_meter", 1, ()),)
        apply_report(ledger, ErrorReport(name, ERROR_REPORT, "mtr_1", "credits", at_us, at_us, errors), LATER_US)

    settle_window(ledger, RUN, asked("twice", 0), Settled())
    settle_window(ledger, RUN, asked("once", 0), Settled())

    assert look("select distinct state from meter_event") == [("rejected",)]
    assert look("select state, matched from notification") == [("applied", 1), ("applied", 1)]


def test_what_a_report_does_not_name_is_counted_by_code(used):
    """Also where a code stands in it twice; more samples than errors leave nothing to find."""
    sample = (Sample("somebody's", ""),)
    errors = (
        ReportedError("a", 3, sample),
        ReportedError("a", 4, ()),
        ReportedError("b", 1, sample),
        ReportedError("c", 0, sample),
    )
    stored = Stored(ErrorReport("e", ERROR_REPORT, "m", "credits", 0, 0, errors), {"a": 1, "b": 1, "c": 1}, 2)

    assert stored.unnamed == {"a": 6}
    assert stored.rest == 4


def test_what_is_taken_back_waits_for_its_mark_again(used, look):
    """A mark that is owed is owed no more, and carried traces of other meter events keep theirs."""
    marks = "select mark_state from trace where trace_id = ?"

    assert look(marks, "named") == [("waiting",)]
    assert look(marks, "accepted") == [("owed",)]


def test_a_new_issue_is_another_identifier_of_the_same_meter_event(used, look):
    """The attempts go on, and only what was reported can be issued anew."""
    own_id = identifier_of(look, "named")
    assert [row["meter_event_id"] for row in reported(used, LATER_US, 10)] == [own_id]
    assert reissue(used, RUN, own_id, decided(look))
    assert not reissue(used, RUN, identifier_of(look, "accepted"), decided(look, "accepted"))
    assert not reissue(used, RUN, "tm-unknown", decided(look))

    (claim,) = used.claim(LATER_US, 10)

    assert (claim.meter_event_id, claim.identifier, claim.attempt) == (own_id, f"{own_id}.1", 2)
    assert claim.idempotency_key == f"{own_id}.1:2"
    assert look("select count(*) from decision where verb = 'reissue'") == [(1,)]


def test_one_that_is_not_mended_is_looked_at_later(used, look):
    """Until then it is no question."""
    offer_again(used, RUN, {}, {identifier_of(look, "named"): LATER_US + 1})

    assert reported(used, LATER_US, 10) == []
    assert len(reported(used, LATER_US + 1, 10)) == 1


def test_a_run_does_not_offer_what_was_reported_again_as_it_is(used, look):
    """The same identifier would be a duplicate, and never be counted."""
    assert used.reopen_rejected() == 0
    assert look("select state from meter_event where customer_id = 'named'") == [("rejected",)]


def test_reports_wait_until_they_are_fetched_and_are_told_once(used):
    """The second one of the fixture has no data yet."""
    assert [one.notification_id for one in received(used, 10)] == ["evt_2"]
    put_notifications(used, [notification(), notification("evt_2")], LATER_US)
    assert len(received(used, 10)) == 1
    assert unexplained_reports(used) == 2
