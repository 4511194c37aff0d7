"""Whatever a ledger goes through, verify finds that it holds; whatever number of it is changed, verify finds that."""

import contextlib
import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import CREDIT_MICROS
from ledger_lines import ACCEPTED, REJECTED, THROTTLED, UNKNOWN, bill, gather_all, later
from proved_ledgers import ANEW, adjust, fill, verified, with_card, withdraw, without_triggers
from tallymark.core.decisions import EntryKind
from tallymark.ledger import open_ledger

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MICROS = st.one_of(st.integers(0, 3 * CREDIT_MICROS), st.integers(0, 999_999_999 * CREDIT_MICROS))
CUSTOMERS = st.sampled_from(["cus_1", "cus_2"])
MINUTES_AGO = st.sampled_from([10, 70, 130])
ANSWERS = st.lists(st.sampled_from([ACCEPTED, UNKNOWN, THROTTLED, REJECTED]), min_size=1, max_size=4)
WITHDRAWALS = st.sampled_from(
    [(EntryKind.REVERSAL, ANEW), (EntryKind.WAIVER, None), (EntryKind.INVOICED, None)],
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bill"), CUSTOMERS, MINUTES_AGO, MICROS),
        st.tuples(st.just("adjust"), st.integers(0, 20), st.integers(-3 * CREDIT_MICROS, 3 * CREDIT_MICROS)),
        st.tuples(st.just("gather")),
        st.tuples(st.just("send"), ANSWERS),
        st.tuples(st.just("withdraw"), st.integers(0, 20), WITHDRAWALS),
    ),
    max_size=14,
)
# Whole numbers that are money, or say where it is; some of them may change by themselves.
COLUMNS = [
    ("entry", "amount_micros"),
    ("entry", "timestamp_us"),
    ("entry", "sequence"),
    ("entry", "bucket_start_us"),
    ("entry", "created_at_us"),
    ("meter_event", "credits"),
    ("meter_event", "entries_micros"),
    ("meter_event", "carry_before_micros"),
    ("meter_event", "carry_after_micros"),
    ("meter_event", "revision"),
    ("meter_event", "bucket_start_us"),
    ("meter_event", "bucket_end_us"),
    ("carry", "amount_micros"),
    ("trace", "billed_micros"),
    ("trace", "waived_micros"),
    ("decision", "amount_micros"),
    ("decision", "at_us"),
    ("chain", "length"),
]

KEYS = {
    "entry": "entry_id",
    "meter_event": "meter_event_id",
    "carry": "customer_id, meter",
    "trace": "project_id, trace_id",
    "decision": "decision_id",
    "chain": "name",
}


class History:
    """Goes through steps as flows and people do."""

    def __init__(self, ledger):
        self.ledger = with_card(ledger)
        self.billed = []
        self.now_seconds = 0

    def bill(self, customer, minutes_ago, micros):
        trace_id = f"t{len(self.billed)}"
        bill(self.ledger, trace_id, micros, customer=customer, minutes_ago=minutes_ago)
        self.billed.append((trace_id, {"customer": customer, "minutes_ago": minutes_ago}))

    def adjust(self, number, micros):
        if self.billed:
            trace_id, place = self.billed[number % len(self.billed)]
            adjust(self.ledger, trace_id, micros, **place)

    def gather(self):
        gather_all(self.ledger)

    def send(self, answers):
        self.now_seconds += 60
        claims = self.ledger.claim(later(self.now_seconds), len(answers))
        self.ledger.settle(list(zip(claims, answers, strict=False)), later(self.now_seconds))

    def withdraw(self, number, how):
        """What Stripe was sent and did not count, or what was never sent."""
        rows = self.ledger.query("list_open_meter_events", reason="", limit=100)
        if withdrawable := [row["meter_event_id"] for row in rows if row["state"] != "sending"]:
            withdraw(self.ledger, withdrawable[number % len(withdrawable)], *how)


@QUICK
@given(STEPS)
def test_every_history_holds(steps):
    """After any step: charges, adjustments, gatherings, answers and withdrawals, in any order."""
    with contextlib.closing(open_ledger("sqlite://")) as ledger:
        history = History(ledger)
        for verb, *values in steps:
            getattr(history, verb)(*values)
            assert verified(ledger).findings == []


@QUICK
@given(st.sampled_from(COLUMNS), st.integers(0, 20), st.integers(-(10**12), 10**12).filter(bool))
def test_every_changed_number_is_found(column, number, by):
    """One number of one row, in any of the tables that money is in."""
    table, name = column
    keys = KEYS[table]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        path.write_bytes(filled())
        with without_triggers(f"sqlite:///{path}") as edit:
            row = number % edit(f"select count(*) from {table}")[0][0]
            chosen = f"(select {keys} from {table} order by {keys} limit 1 offset {row})"
            with contextlib.suppress(sqlite3.IntegrityError):  # Then the database itself has refused it.
                edit(f"update {table} set {name} = {name} + ? where ({keys}) = {chosen}", by)
            changed = edit("select changes()")[0][0]
        with contextlib.closing(open_ledger(f"sqlite:///{path}")) as ledger:
            assert verified(ledger).holds == (not changed)


@cache
def filled():
    """The file of a ledger with every kind of line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        fill(open_ledger(f"sqlite:///{path}")).close()
        return path.read_bytes()
