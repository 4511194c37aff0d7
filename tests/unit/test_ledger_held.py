"""Decisions in the ledger alone: each is one transaction, leaves every sum right, and is refused without sense."""

import contextlib
import inspect

import pytest

from builders import PROJECT, read_trace
from databases import DATABASES, NESTED, ask, everything
from ledger_lines import ACCEPTED, NOW_US, REJECTED, RUN, UNKNOWN, adjust, bill, claim_one, gather_all, later
from tallymark.core.choices import Choice
from tallymark.core.clock import DAY_US
from tallymark.core.decisions import Decision, MarkState, Outcome
from tallymark.core.periods import Lateness, Period
from tallymark.core.states import Answer, MeterOutcome
from tallymark.core.types import Reason
from tallymark.core.windows import bucket_of
from tallymark.errors import ConfigError
from tallymark.failpoints import Step
from tallymark.ledger import cancelling, deletions, held, periods, rulings
from tallymark.ledger.corrections import Place
from tallymark.ledger.held import Word

pytestmark = pytest.mark.databases(*DATABASES)
HELD_MICROS = 500
LATER_RUN = RUN._replace(now_us=later(7200))
KEY = (PROJECT, "t1")


def word(choice, place=None):
    return Word(choice, "anna", "agreed", place)


@pytest.fixture
def waiting(ledger, look):
    """A function that has usage of some traces held as late in one meter event; its id."""

    def make(*micros, customer="cus_1", **place):
        end_us = NOW_US - 50 * 60 * 1_000_000
        periods.put_periods(
            ledger, [periods.Checked(customer, "credits", [Period("si", end_us - DAY_US, end_us)])], NOW_US
        )
        for number, amount in enumerate(micros, 1):
            bill(ledger, f"t{number}", amount, customer=customer, **place)
        while ledger.gather(RUN, 100, Lateness(0)):
            pass
        ((meter_event_id,),) = look("select meter_event_id from meter_event where state = 'held'")
        return meter_event_id

    return make


def lines(look):
    return look("select trace_id, kind, amount_micros from entry order by entry_id")


def carry(look):
    return dict(look("select customer_id, amount_micros from carry"))


# ---- meter events


def test_bill_now_moves_every_trace_and_gives_the_carry_back(ledger, look, waiting):
    """The held one covers nothing any more; its traces wait in the bucket of the decision."""
    meter_event_id = waiting(1_300_000, 900_000)
    assert carry(look) == {"cus_1": 200_000}
    start_us, end_us = bucket_of(LATER_RUN.now_us, "hour")
    place = Place(LATER_RUN.now_us, start_us, end_us)

    assert held.decide_meter_events(ledger, LATER_RUN, word(Choice.BILL_NOW, place), [meter_event_id]) == [1]

    assert lines(look)[2:] == [
        ("t1", "reversal", -1_300_000),
        ("t1", "rebooking", 1_300_000),
        ("t2", "reversal", -900_000),
        ("t2", "rebooking", 900_000),
    ]
    assert carry(look) == {"cus_1": 0}
    assert look("select distinct timestamp_us, bucket_start_us from entry where meter_event_id is null") == [
        (LATER_RUN.now_us, start_us)
    ]


def test_waiving_takes_nothing_from_a_customer(ledger, look, waiting):
    """One trace gives back more than it has in this bucket: that is entered anew, and only the rest is waived."""
    meter_event_id = waiting(5_000_000)
    held.decide_meter_events(ledger, RUN, word(Choice.AS_IS), [meter_event_id])
    ledger.settle([(claim_one(ledger), ACCEPTED)], later(1))
    adjust(ledger, "t1", -2_000_000)
    bill(ledger, "t2", 9_000_000)
    while ledger.gather(RUN, 100, Lateness(0)):
        pass
    ((second,),) = look("select meter_event_id from meter_event where state = 'held'")

    held.decide_meter_events(ledger, RUN, word(Choice.WAIVE), [second])
    gather_all(ledger)

    assert lines(look)[3:] == [
        ("t1", "reversal", 2_000_000),
        ("t1", "rebooking", -2_000_000),
        ("t2", "waiver", -9_000_000),
    ]
    assert carry(look) == {"cus_1": -2_000_000}
    assert look("select trace_id, waived_micros from trace order by 1") == [("t1", 0), ("t2", 9_000_000)]


def test_all_or_none(ledger, look, waiting):
    """If one of several is not open to the word, nothing is decided about any."""
    meter_event_id = waiting(5_000_000)

    with pytest.raises(ConfigError, match="nothing to decide"):
        accepted = accept_one(ledger, look)
        held.decide_meter_events(ledger, RUN, word(Choice.WAIVE), [meter_event_id, accepted])

    assert look("select count(*) from decision") == [(0,)]
    assert look("select state from meter_event where meter_event_id = ?", meter_event_id) == [("held",)]


def accept_one(ledger, look):
    """A meter event of another customer that Stripe has taken."""
    bill(ledger, "other", customer="cus_9")
    gather_all(ledger)
    claim = claim_one(ledger)
    ledger.settle([(claim, ACCEPTED)], later(1))
    return claim.meter_event_id


def test_what_may_have_arrived_is_never_withdrawn(ledger, look):
    """A refusal after an unanswered send: the first may have been counted."""
    bill(ledger, "t1")
    gather_all(ledger)
    ledger.settle([(claim_one(ledger), UNKNOWN)], later(1))
    claim = claim_one(ledger, later(10))
    ledger.settle([(claim, REJECTED)], later(11))

    with pytest.raises(ConfigError, match="nothing to decide"):
        held.decide_meter_events(ledger, RUN, word(Choice.WAIVE), [claim.meter_event_id])


def test_a_reported_one_is_sent_again_under_a_new_identifier(ledger, look, ledger_url):
    """Whether Stripe frees the old one is not documented."""
    bill(ledger, "t1")
    gather_all(ledger)
    claim = claim_one(ledger)
    ledger.settle([(claim, REJECTED)], later(1))
    ask(ledger_url, "update meter_event set reported_at_us = 1")

    held.decide_meter_events(ledger, RUN, word(Choice.AS_IS), [claim.meter_event_id])

    assert claim_one(ledger, later(10)).identifier == f"{claim.meter_event_id}.1"
    assert look("select verb from decision") == [("reissue",)]


# ---- each writing function is one transaction


def hold_trace(ledger, trace_id="t1"):
    trace = read_trace(trace_id)
    decision = Decision(
        trace,
        Reason.NO_CUSTOMER,
        Outcome.HELD,
        MarkState.NONE,
        reason=Reason.NO_CUSTOMER,
        detail="nobody",
        worth_micros=HELD_MICROS,
    )
    ledger.record(RUN, [trace], lambda *_: decision)


def cancel_setup(ledger):
    bill(ledger, "cancel", 5_000_000, customer="cus_c", bucket="trace")
    gather_all(ledger)
    ledger.settle([(claim_one(ledger), ACCEPTED)], later(1))
    adjust(ledger, "cancel", -1_000_000, customer="cus_c", bucket="trace")


def settle_a_cancel(ledger, url):
    (claim,) = cancelling.claim_cancels(ledger, later(2), 10, Lateness())
    before = everything(url)
    return before, lambda: cancelling.settle_cancels(
        ledger, RUN, [(claim, MeterOutcome(Answer.ACCEPTED, "taken"))], later(3), ()
    )


# Each writing function of these modules, and how to make it write in the ledger of the fixture `used`.
WRITES = {
    (periods, "doubt_periods"): lambda ledger, _id: periods.doubt_periods(ledger, "cus_1", NOW_US),
    (periods, "put_periods"): lambda ledger, _id: periods.put_periods(
        ledger, [periods.Checked("cus_1", "credits", [Period("x", 0, 1)])], NOW_US
    ),
    (held, "decide_meter_events"): lambda ledger, held_id: held.decide_meter_events(
        ledger, RUN, word(Choice.WAIVE), [held_id]
    ),
    (held, "begin_invoicing"): lambda ledger, held_id: held.begin_invoicing(
        ledger, RUN, word(Choice.INVOICE_ITEM), held_id, "{}"
    ),
    (held, "finish_invoicing"): lambda ledger, held_id: held.finish_invoicing(
        ledger, RUN, held.Invoicing(held_id, 1, "{}"), "ii_1"
    ),
    (held, "refuse_invoicing"): lambda ledger, held_id: held.refuse_invoicing(
        ledger, RUN, held.Invoicing(held_id, 1, "{}"), "no"
    ),
    (rulings, "rule_traces"): lambda ledger, _id: rulings.rule_traces(
        ledger, RUN, word(Choice.ASSIGN, Place(customer_id="cus_2")), {(PROJECT, "held"): HELD_MICROS}
    ),
    (rulings, "put_customer_rules"): lambda ledger, _id: rulings.put_customer_rules(
        ledger, RUN, "anna", "agreed", [("user", "u2")], "cus_2"
    ),
    (rulings, "remove_customer_rule"): lambda ledger, _id: rulings.remove_customer_rule(
        ledger, RUN, "anna", "ended", "user", "u1"
    ),
    (deletions, "credit_deleted"): lambda ledger, _id: deletions.credit_deleted(
        ledger, RUN, [(PROJECT, "cancel")], "trace"
    ),
    (deletions, "note_deleted"): lambda ledger, _id: deletions.note_deleted(
        ledger, RUN, [(PROJECT, "cancel")], held=True
    ),
    (deletions, "decide_deleted"): lambda ledger, _id: deletions.decide_deleted(
        ledger, RUN, word(Choice.WAIVE), [(PROJECT, "gone")], "hour"
    ),
    (cancelling, "claim_cancels"): lambda ledger, _id: cancelling.claim_cancels(ledger, later(2), 10, Lateness()),
    (cancelling, "settle_cancels"): None,
}


@pytest.fixture
def used(ledger, waiting):
    """A ledger in which every writing function has something to do, and the id of the held meter event."""
    held_id = waiting(5_000_000)
    hold_trace(ledger, "held")
    rulings.put_customer_rules(ledger, RUN, "anna", "agreed", [("user", "u1")], "cus_1")
    cancel_setup(ledger)
    bill(ledger, "gone", customer="cus_g")
    deletions.note_deleted(ledger, RUN, [(PROJECT, "gone")], held=True)
    return ledger, held_id


def test_the_table_above_names_every_writing_function():
    """A function that opens a transaction cannot be added without being tested here."""
    writing = {
        (module, name)
        for module in (periods, held, rulings, deletions, cancelling)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and "transaction(Step." in inspect.getsource(function)
    }

    assert set(WRITES) == writing


@pytest.fixture(params=WRITES, ids=lambda each: each[1])
def write(request, used, ledger_url):
    """What the ledger was before, and a function that makes one writing function write."""
    ledger, held_id = used
    if request.param == (cancelling, "settle_cancels"):
        return settle_a_cancel(ledger, ledger_url)
    return everything(ledger_url), lambda: WRITES[request.param](ledger, held_id)


def test_what_a_function_wrote_is_committed_when_it_returns(write, ledger_url):
    """A second connection sees it at once."""
    before, make = write

    make()

    assert everything(ledger_url) != before


def test_every_write_is_inside_the_functions_transaction(write, used, ledger_url, monkeypatch):
    """If the transaction is rolled back, a second connection sees nothing of it."""
    before, make = write
    begin = type(used[0]._db).transaction

    @contextlib.contextmanager
    def rolled_back(database, step):
        with begin(database, step):
            yield
            raise RuntimeError("no commit")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="no commit"):
        patched.setattr(type(used[0]._db), "transaction", rolled_back)
        make()

    assert everything(ledger_url) == before


def test_a_function_never_joins_a_transaction_that_is_open(write, used, ledger_url):
    """The ledger is the only owner of transactions: nested, it refuses, and the outer one can still be undone."""
    before, make = write

    with pytest.raises(NESTED, match="within a transaction"), used[0]._db.transaction(Step.RECORD):
        make()

    assert everything(ledger_url) == before


# ---- traces


def test_a_later_word_keeps_what_an_earlier_one_said_of_the_customer(ledger):
    """First whom to bill, then when; or the other way round."""
    for first, second in ((Choice.ASSIGN, Choice.BILL_NOW), (Choice.BILL_NOW, Choice.ASSIGN)):
        trace_id = f"t-{first}"
        hold_trace(ledger, trace_id)
        for number, choice in enumerate((first, second)):
            place = Place(customer_id="cus_7") if choice is Choice.ASSIGN else None
            run = RUN._replace(now_us=later(number))
            rulings.rule_traces(ledger, run, word(choice, place), {(PROJECT, trace_id): HELD_MICROS})

        found = rulings.ruling_of(ledger, (PROJECT, trace_id))
        assert (found.customer_id, found.waived) == ("cus_7", False)
        assert found.dated_at_us is not None


def test_what_is_given_back_is_what_the_customer_pays(ledger, look, waiting):
    """Of 5 credits billed and 3 waived, a deletion gives back 5; what was waived nobody paid."""
    meter_event_id = waiting(3_000_000)
    held.decide_meter_events(ledger, RUN, word(Choice.WAIVE), [meter_event_id])
    adjust(ledger, "t1", 5_000_000, minutes_ago=30)

    assert deletions.credit_deleted(ledger, RUN, [KEY], "hour") == 5_000_000

    assert look("select sum(amount_micros) from entry") == [(0,)]
