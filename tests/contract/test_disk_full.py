"""A disk that is full in the middle of a run: a sentence, nothing half-written, and the next run completes exactly.

The size of the file is bounded at every place where a run may meet the end of the disk; the judge is Stripe's tally.
"""

import contextlib
import sqlite3
import traceback
from collections import Counter

import pytest

from tallymark.errors import LedgerFull
from tallymark.flows import proof
from tallymark.flows.backfill import backfill
from tallymark.ledger import open_ledger
from tallymark.ledger.sqlite import SqliteDatabase
from tallymark.ledger.verify import NOTHING_NOTED

TRACES = 60


@pytest.fixture
def story(put):
    """Traces with long ids and names, so that each transaction fills pages; many customers."""
    for number in range(TRACES):
        put(f"trace-{number:03d}-{'x' * 180}", minutes_ago=30 + number, customer=f"cus_{number % 20}", name="n" * 200)


@pytest.fixture
def bounded(monkeypatch, ledger_path):
    """A function that bounds the ledger's file to so many pages beyond those of an empty one; None takes it away."""
    open_ledger(f"sqlite:///{ledger_path}").close()
    with contextlib.closing(sqlite3.connect(ledger_path)) as database:
        empty = database.execute("pragma page_count").fetchone()[0]
    connect = SqliteDatabase.__init__

    def bound(pages):
        def small(database, path, **options):
            connect(database, path, **options)
            if pages is not None and path == str(ledger_path):
                database._connection.execute(f"pragma max_page_count = {empty + pages}")

        monkeypatch.setattr(SqliteDatabase, "__init__", small)

    return bound


def quiet(stage, done, total):
    """Nobody listens to the progress."""


def where(error):
    """The verb of the ledger that met the end of the disk."""
    return {frame.name for frame in traceback.extract_tb(error.__traceback__)} & {"record", "gather", "claim", "settle"}


def test_a_disk_that_is_full_again_and_again(story, run, settings, stripe, bounded, look):
    """It grows by a page and is full a moment later: each time what is there holds; in the end all is billed once."""
    met = Counter()
    for pages in range(0, 400, 2):
        bounded(pages)
        try:
            run(full=True)
            break
        except LedgerFull as error:
            assert "no space is left for the ledger" in str(error)
            assert "nothing is half-written. Free space and run again." in str(error)
            met.update(where(error))
        assert proof.verify_ledger(settings().ledger_url, NOTHING_NOTED, quiet).findings == []

    assert met.total() > 10
    assert len(met) > 2
    assert sum(stripe.tally().values()) == TRACES * 500
    assert look("select count(*) from entry") == [(TRACES,)]
    assert proof.verify_ledger(settings().ledger_url, NOTHING_NOTED, quiet).findings == []
    bounded(None)
    assert run(full=True).meter_events.accepted == 0


def test_a_full_disk_in_the_middle_of_a_backfill(story, run, settings, stripe, bounded, clock):
    """History is brought in whole by the second try."""
    bounded(8)
    with pytest.raises(LedgerFull):
        backfill(settings(), clock=clock)
    bounded(None)

    backfill(settings(), clock=clock)
    run()

    assert sum(stripe.tally().values()) == TRACES * 500
