"""The ledger alone: entries are never edited, and gathering makes whole credits and a carry of them."""

import sqlite3

import pytest

from builders import PROJECT, read_trace
from databases import DATABASES, REFUSED, ask
from ledger_lines import NOW_US, RUN, adjust, bill, charge, claim_one, entry, gather_all
from tallymark.core.clock import SECOND_US
from tallymark.errors import LedgerUnusable
from tallymark.ledger import open_ledger

pytestmark = pytest.mark.databases(*DATABASES)

# ---- entries are never edited


@pytest.mark.parametrize(
    "edit",
    [
        "update entry set amount_micros = amount_micros + 1",
        "update entry set customer_id = 'cus_2'",
        "update entry set bucket_start_us = 0",
        "update entry set meter_event_id = 'another'",
        "update entry set components = '{}'",
        "delete from entry",
    ],
)
def test_a_covered_entry_can_be_neither_edited_nor_deleted(ledger, ledger_url, look, edit):
    """A wrong entry is answered by another entry; the database itself refuses anything else."""
    bill(ledger, "t1")
    gather_all(ledger)
    before = look("select * from entry")

    with pytest.raises(REFUSED, match="an entry is never"):
        ask(ledger_url, edit)

    assert look("select * from entry") == before


def test_an_open_entry_cannot_be_edited_while_it_is_covered(ledger, ledger_url):
    """Setting the meter event is the one change, and it changes nothing else on the way."""
    bill(ledger, "t1")

    with pytest.raises(REFUSED, match="never edited"):
        ask(ledger_url, "update entry set meter_event_id = 'x', amount_micros = 1")


def test_the_unique_key_refuses_a_second_charge(ledger, look, monkeypatch):
    """Even code that believed a trace unbilled cannot bill it twice: nothing of its batch is stored."""
    bill(ledger, "t1")
    stale = ledger._db.rows
    monkeypatch.setattr(ledger._db, "rows", lambda of, /, **v: [] if of == "billed_by_meter" else stale(of, **v))

    with pytest.raises(
        (sqlite3.IntegrityError, LedgerUnusable), match=r"UNIQUE constraint failed: entry|UniqueViolation"
    ):
        bill(ledger, "t1")

    assert look("select count(*) from entry") == [(1,)]


def test_adjustments_are_numbered_per_meter(ledger, look):
    """Sequence 0 is the charge, 1 and up its adjustments."""
    bill(ledger, "t1", 5_000_000)
    adjust(ledger, "t1", 1_000_000)
    adjust(ledger, "t1", -500_000)
    adjust(ledger, "t1", 7, meter="compute")

    assert look("select meter, sequence, kind, amount_micros from entry order by meter, sequence") == [
        ("compute", 0, "adjustment", 7),
        ("credits", 0, "charge", 5_000_000),
        ("credits", 1, "adjustment", 1_000_000),
        ("credits", 2, "adjustment", -500_000),
    ]
    assert ledger.billed_by_meter((PROJECT, "t1")) == {"credits": 5_500_000, "compute": 7}


def test_a_batch_is_all_or_nothing(ledger, look):
    """A decision that fails half-way through a batch leaves nothing of the batch behind."""

    def fail_at_the_second(trace, _known):
        if trace.trace_id == "t2":
            raise RuntimeError("a bug")
        return charge(trace, entry(trace, 1_000_000))

    with pytest.raises(RuntimeError):
        ledger.record(RUN, [read_trace("t1"), read_trace("t2")], fail_at_the_second)

    assert look("select count(*) from trace") == [(0,)]
    assert look("select count(*) from entry") == [(0,)]


# ---- gathering and the carry


def test_a_bucket_becomes_one_meter_event_of_whole_credits(ledger, look):
    """Traces of one customer, meter and hour are one meter event; what is left over is the carry."""
    bill(ledger, "t1", 2_500_000)
    bill(ledger, "t2", 1_700_000)

    gather_all(ledger)

    assert look("select credits, entries_micros, carry_before_micros, carry_after_micros, state from meter_event") == [
        (4, 4_200_000, 0, 200_000, "pending")
    ]
    assert look("select customer_id, meter, amount_micros from carry") == [("cus_1", "credits", 200_000)]


@pytest.mark.parametrize("change", [{"customer": "cus_2"}, {"meter": "compute"}, {"minutes_ago": 130}])
def test_another_customer_meter_or_hour_is_another_meter_event(ledger, look, change):
    """A bucket is (customer, meter, window)."""
    bill(ledger, "t1")
    bill(ledger, "t2", **change)

    gather_all(ledger)

    assert look("select count(*), count(distinct meter_event_id) from meter_event") == [(2, 2)]


def test_the_carry_of_one_bucket_goes_into_the_next(ledger, look):
    """0.6 + 0.6 credits in two hours: nothing, then one whole credit."""
    bill(ledger, "t1", 600_000, minutes_ago=130)
    bill(ledger, "t2", 600_000)

    gather_all(ledger)

    assert look(
        "select credits, carry_before_micros, carry_after_micros, state from meter_event order by bucket_start_us"
    ) == [
        (0, 0, 600_000, "carried"),
        (1, 600_000, 200_000, "pending"),
    ]


def test_a_bucket_below_one_credit_is_processed_without_a_meter_event(ledger):
    """It goes into the carry whole: nothing to claim, and its trace is due for its mark."""
    bill(ledger, "t1", 999_999)
    gather_all(ledger)

    assert ledger.claim(NOW_US, 10) == []
    assert [row["trace_id"] for row in ledger.owed_marks(PROJECT, "", 10)] == ["t1"]


def test_a_negative_total_is_carried_and_paid_off_by_later_usage(ledger, look):
    """Stripe takes no negative usage: an adjustment downwards waits in the carry until charges outweigh it."""
    bill(ledger, "t1", 5_000_000)
    gather_all(ledger)
    adjust(ledger, "t1", -4_200_000)
    gather_all(ledger)
    bill(ledger, "t2", 5_000_000)
    gather_all(ledger)

    assert look("select revision, credits, carry_after_micros from meter_event order by revision") == [
        (0, 5, 0),
        (1, 0, -4_200_000),
        (2, 0, 800_000),
    ]


def test_the_timestamp_is_the_latest_usage_of_the_bucket(ledger, look):
    """Inside the bucket, and never ahead of the usage (G3)."""
    early, late = bill(ledger, "t1", minutes_ago=50), bill(ledger, "t2", minutes_ago=40)
    assert early.timestamp_us < late.timestamp_us

    gather_all(ledger)

    ((timestamp_s, start_us, end_us),) = look("select timestamp_s, bucket_start_us, bucket_end_us from meter_event")
    assert timestamp_s * SECOND_US == late.timestamp_us
    assert start_us <= timestamp_s * SECOND_US < end_us


def test_a_gathered_meter_event_is_never_rebuilt(ledger, look):
    """Later usage of the same bucket is a meter event of its own, with an identifier of its own."""
    bill(ledger, "t1", 2_000_000)
    gather_all(ledger)
    first = look("select * from meter_event")
    bill(ledger, "t2", 3_000_000)
    gather_all(ledger)

    after = look("select * from meter_event order by revision")
    assert after[:1] == first
    assert len({row[0] for row in after}) == len(after) == 2


def test_gathering_takes_no_more_buckets_than_it_is_asked_for(ledger):
    """Each transaction is short; the caller goes on until nothing is open."""
    for number in range(5):
        bill(ledger, f"t{number}", minutes_ago=60 * number + 30)

    assert [ledger.gather(RUN, 2) for _ in range(4)] == [2, 2, 1, 0]


def test_identifiers_of_two_ledgers_differ(ledger, new_ledger, look):
    """The same usage in two ledgers never looks like one meter event to Stripe."""
    other = open_ledger(new_ledger("other"))
    for each in (ledger, other):
        bill(each, "t1")
        gather_all(each)

    assert claim_one(ledger).meter_event_id != claim_one(other).meter_event_id
    other.close()
