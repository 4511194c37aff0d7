"""The connection to the ledger is lost in the middle of a transaction: nothing is half-written, the next run completes.

Lost means that the n-th writing statement of a run finds the connection closed, as by a server that went away or a file
system that was unmounted; the judge is Stripe's tally.
"""

import contextlib

import pytest

from builders import CREDITS_OF_A_TRACE
from tallymark.errors import LedgerError
from tallymark.flows import proof
from tallymark.ledger import open_ledger
from tallymark.ledger.sending import CLAIM_SECONDS
from tallymark.ledger.sqlite import SqliteDatabase
from tallymark.ledger.verify import NOTHING_NOTED

CUSTOMERS = 6
# More than a run has.
STATEMENTS_MAX = 300


@pytest.fixture
def lost_at(monkeypatch):
    """A function that closes the connection at the n-th writing statement from now on, or never; gives what is left."""
    left = 0

    def losing(change):
        def changed(database, *arguments):
            nonlocal left
            left -= 1
            if left == 0:
                database._connection.close()
            return change(database, *arguments)

        return changed

    def arm(number):
        nonlocal left
        left = number or 10**9
        return lambda: left

    for name in ("_change", "_change_each"):
        monkeypatch.setattr(SqliteDatabase, name, losing(getattr(SqliteDatabase, name)))
    return arm


def quiet(stage, done, total):
    """Nobody listens to the progress."""


def test_a_connection_that_is_lost_anywhere_loses_and_doubles_nothing(put, run, settings, stripe, clock, lost_at):
    """One statement later each time: what is there holds, each error is one of ours, in the end all is billed once."""
    for number in range(CUSTOMERS):
        put(f"t{number}", customer=f"cus_{number}")
    open_ledger(settings().ledger_url).close()
    lost = 0
    for statement in range(1, STATEMENTS_MAX):
        left = lost_at(statement)
        with contextlib.suppress(LedgerError):
            run(full=True)
        if left() > 0:
            break
        lost += 1
        lost_at(None)
        assert proof.verify_ledger(settings().ledger_url, NOTHING_NOTED, quiet).findings == []
        # What this process still claims is free again a while later.
        clock.advance(CLAIM_SECONDS)

    assert lost > 20
    assert set(stripe.tally().values()) == {CREDITS_OF_A_TRACE}
    assert len(stripe.tally()) == CUSTOMERS
    assert run(full=True).meter_events.accepted == 0
