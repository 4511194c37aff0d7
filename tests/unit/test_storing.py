"""Rows are written beside the making of the next ones: in order, all or none, and never behind one that failed."""

import pytest

from builders import read_trace
from databases import DATABASES
from ledger_lines import RUN, charge, entry
from tallymark.ledger import storing

pytestmark = pytest.mark.databases(*DATABASES)


@pytest.fixture
def many(monkeypatch):
    """Traces that take several parts."""
    monkeypatch.setattr(storing, "PART_ROWS", 3)
    return [read_trace(f"t{number:02}") for number in range(10)]


def billed(trace, _known):
    """Each is worth a credit."""
    return charge(trace, entry(trace, 1_000_000))


def test_all_parts_are_stored_in_order_under_one_chain(ledger, look, many):
    """What is decided first is the first line of the ledger, whichever thread wrote it."""
    ledger.record(RUN, many, billed)

    stored = [trace_id for (trace_id,) in look("select trace_id from entry order by entry_id")]
    assert stored == [trace.trace_id for trace in many]
    assert ledger.chain_head("entry").startswith("10:")


def test_nothing_is_written_behind_a_part_that_failed(ledger, look, many, monkeypatch):
    """The statement that failed may have ended the transaction: what came after it would be committed by itself."""
    written, write_many = [], ledger._db.write_many

    def failing(name, rows):
        written.extend(row.trace_id for row in rows if name == "put_trace")
        if name == "put_trace" and "t03" in written:
            raise BufferError("the disk is gone")
        write_many(name, rows)

    monkeypatch.setattr(ledger._db, "write_many", failing)
    with pytest.raises(BufferError, match="the disk is gone"):
        ledger.record(RUN, many, billed)

    assert written[-1] == "t05"
    assert look("select * from trace") == []


def test_nothing_is_stored_if_one_decision_fails(ledger, look, many):
    """Parts that were written before are undone with their transaction."""

    def decide(trace, known):
        if trace.trace_id == "t08":
            raise ArithmeticError("no such number")
        return billed(trace, known)

    with pytest.raises(ArithmeticError):
        ledger.record(RUN, many, decide)

    assert look("select * from trace") == look("select * from entry") == []
