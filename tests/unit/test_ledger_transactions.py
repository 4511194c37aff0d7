"""Every method of the ledger that writes: committed when it returns, wholly undone when it fails, never half."""

import contextlib
import inspect

import pytest

from builders import PROJECT, read_trace
from databases import DATABASES, NESTED, everything, impatient
from ledger_lines import ACCEPTED, NOW_US, REJECTED, RUN, adjust, bill, charge, entry, gather_all, later
from tallymark.errors import LedgerLocked
from tallymark.failpoints import Step
from tallymark.ledger import Ledger, sending
from tallymark.ledger.ledger import Coverage

pytestmark = pytest.mark.databases(*DATABASES)
COVERAGE = Coverage("source", "sync", 0, NOW_US)


def put_one_trace(ledger):
    trace = read_trace("new")
    ledger.record(RUN, [trace], lambda one, _: charge(one, entry(one, 1_500_000)), COVERAGE)


def settle_one(ledger):
    ledger.settle([(ledger.claim(later(120), 1)[0], ACCEPTED)], later(121))


def settle_one_and_claim(ledger):
    ledger.settle_and_claim([(ledger.claim(later(120), 1)[0], ACCEPTED)], later(121), 10)


# Each writing method, and how to make it write in the ledger of the fixture `used`.
WRITES = {
    "put_fact": lambda ledger: ledger.put_fact("name", "value"),
    "start_run": lambda ledger: ledger.start_run("run-2", "sync", NOW_US, "card-2", "text"),
    "finish_run": lambda ledger: ledger.finish_run("run-1", b"{}", NOW_US),
    "put_coverage": lambda ledger: ledger.put_coverage(Coverage("source", "sync", 5, 6)),
    "forget_coverage": lambda ledger: ledger.forget_coverage("source", "backfill"),
    "record": put_one_trace,
    "gather": lambda ledger: ledger.gather(RUN, 10),
    "claim": lambda ledger: ledger.claim(later(120), 10),
    "settle": settle_one,
    "settle_and_claim": settle_one_and_claim,
    "reopen_rejected": lambda ledger: ledger.reopen_rejected(),
    "settle_marks": lambda ledger: ledger.settle_marks([(PROJECT, "carried")], {}, NOW_US),
    "tagged": lambda ledger: ledger.tagged([(PROJECT, "untagged")]),
}


@pytest.fixture
def used(ledger):
    """A ledger in which every writing method has something to do."""
    ledger.start_run("run-1", "sync", NOW_US, "card", "text")
    ledger.put_coverage(Coverage("source", "backfill", 0, 1))
    bill(ledger, "carried", 1, customer="cus_3")
    bill(ledger, "t0", customer="cus_0")
    gather_all(ledger)
    ledger.settle([(ledger.claim(NOW_US, 1)[0], REJECTED)], NOW_US)
    bill(ledger, "t1", minutes_ago=120)
    gather_all(ledger)
    adjust(ledger, "t1", 700_000, minutes_ago=120)
    untagged = read_trace("untagged", tags=())
    ledger.record(RUN, [untagged], lambda one, _: charge(one, entry(one, 1)))
    return ledger


def test_the_table_above_names_every_writing_method():
    """A method that opens a transaction cannot be added without being tested here."""
    writing = {
        name
        for name, method in inspect.getmembers(Ledger, inspect.isfunction)
        if not name.startswith("_") and name != "transaction" and "transaction(Step." in inspect.getsource(method)
    }

    assert set(WRITES) == writing


@pytest.mark.parametrize("name", WRITES)
def test_what_a_method_wrote_is_committed_when_it_returns(used, ledger_url, name):
    """A second connection sees it at once."""
    before = everything(ledger_url)

    WRITES[name](used)

    assert everything(ledger_url) != before


@pytest.mark.parametrize("name", [name for name in WRITES if name not in ("settle", "settle_and_claim")])
def test_every_write_is_inside_the_methods_transaction(used, ledger_url, name, monkeypatch):
    """If the transaction of a method is rolled back, a second connection sees nothing of it."""
    before = everything(ledger_url)
    begin = type(used._db).transaction

    @contextlib.contextmanager
    def rolled_back(database, step):
        with begin(database, step):
            yield
            raise RuntimeError("no commit")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="no commit"):
        patched.setattr(type(used._db), "transaction", rolled_back)
        WRITES[name](used)

    assert everything(ledger_url) == before
    used.put_fact("no transaction", "is open")


def test_an_answer_is_stored_wholly_or_not_at_all(used, ledger_url, monkeypatch):
    """Attempt, state and marks of a settle belong together; several answers too."""
    bill(used, "t2", customer="cus_2")
    gather_all(used)
    claims = used.claim(later(120), 10)
    before = everything(ledger_url)
    settle_one_claim = sending.settle_txn

    def fail_at_the_second(database, claim, outcome, now_us):
        if claim is claims[1]:
            raise RuntimeError("a bug")
        settle_one_claim(database, claim, outcome, now_us)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="a bug"):
        patched.setattr(sending, "settle_txn", fail_at_the_second)
        used.settle([(claim, ACCEPTED) for claim in claims], later(121))

    assert everything(ledger_url) == before


@pytest.mark.parametrize("name", [name for name in WRITES if name != "settle"])
def test_a_method_never_joins_a_transaction_that_is_open(used, ledger_url, name):
    """The ledger is the only owner of transactions: nested, it refuses, and the outer one can still be undone."""
    before = everything(ledger_url)

    with pytest.raises(NESTED, match="within a transaction"), used._db.transaction(Step.RECORD):
        WRITES[name](used)

    assert everything(ledger_url) == before
    used.put_fact("no transaction", "is open")


def test_a_decision_is_taken_under_the_write_lock(used, ledger_url):
    """What a decision rests on cannot change before it is stored: a second writer must wait."""
    with impatient(ledger_url) as other:

        def decide(trace, _known):
            with pytest.raises(LedgerLocked), other.transaction(Step.RECORD):
                pass
            return charge(trace, entry(trace, 1))

        used.record(RUN, [read_trace("new")], decide)
        with other.transaction(Step.RECORD):
            pass
