"""Ledgers that hold, for tests of what proves them; and ways to tamper with one."""

from dataclasses import replace

from builders import PROJECT, read_trace
from databases import without_triggers
from ledger_lines import ACCEPTED, NOW_US, REJECTED, RUN, UNKNOWN, bill, charge, entry, gather_all, later
from tallymark.core.clock import HOUR_US
from tallymark.core.decisions import EntryKind
from tallymark.failpoints import Step
from tallymark.ledger.corrections import Decided, Place, put_decision_txn, withdraw_txn
from tallymark.ledger.verify import NOTHING_NOTED, Noted, verify

ANEW = Place(NOW_US, NOW_US - NOW_US % HOUR_US, NOW_US - NOW_US % HOUR_US + HOUR_US)


def quiet(stage, done, total):
    """Nobody listens to the progress."""


def verified(ledger, *, entries=None, decisions=None, progress=quiet):
    """What verifying an open ledger finds. The text of its rate cards is their digest, for brevity."""
    noted = Noted(entries, decisions) if entries or decisions else NOTHING_NOTED
    with ledger.one_moment() as db:
        return verify(db, noted, lambda body: body, progress)


def with_card(ledger):
    """Store the rate card that lines of tests name."""
    ledger.start_run(RUN.run_id, "sync", NOW_US, "card", "card")
    return ledger


def adjust(ledger, trace_id, micros, *, minutes_ago=60, **place):
    """Add a line to a trace that was billed before, which then says what it was billed in all."""
    trace = read_trace(trace_id, minutes_ago=minutes_ago)
    billed = sum(ledger.billed_by_meter((PROJECT, trace_id)).values()) + micros
    line = entry(trace, micros, kind="adjustment", **place)
    ledger.record(RUN, [trace], lambda one, _: replace(charge(one, line), worth_micros=billed, billed_micros=billed))


def withdraw(ledger, meter_event_id, kind, place=None):
    """Withdraw a meter event by a decision of the same amount."""
    with ledger.transaction(Step.SETTLE) as db:
        amount = sum(row["amount_micros"] for row in db.rows("covered_by", meter_event_id=meter_event_id))
        decided = Decided("anna", "cancel", "meter_event", meter_event_id, amount, "it was not counted")
        decision_id = put_decision_txn(db, NOW_US, decided)
        return withdraw_txn(db, RUN, meter_event_id, decision_id, place, kind)


def send(ledger, *answers, at_us=None):
    """Claim as many meter events as there are answers, and settle them; their ids."""
    at_us = at_us or NOW_US
    claims = ledger.claim(at_us, len(answers))
    ledger.settle(list(zip(claims, answers, strict=True)), at_us)
    return [claim.meter_event_id for claim in claims]


def fill(ledger):
    """Every kind of entry, and a meter event in every state that a ledger comes into by itself."""
    with_card(ledger)
    bill(ledger, "t1", 2_500_000)
    bill(ledger, "t2", 1_700_000, minutes_ago=130)
    bill(ledger, "carried", 300_000, customer="cus_carried")
    gather_all(ledger)
    send(ledger, ACCEPTED)
    adjust(ledger, "t1", -400_000)
    adjust(ledger, "t2", 5_000_000, minutes_ago=130)
    bill(ledger, "reassigned", 7_250_000, customer="cus_wrong")
    bill(ledger, "waived", 3_100_000, customer="cus_waived")
    bill(ledger, "invoiced", 4_900_000, customer="cus_invoiced")
    gather_all(ledger)
    lanes = {
        row["customer_id"]: row["meter_event_id"]
        for row in ledger.query("list_open_meter_events", reason="", limit=100)
    }
    withdraw(ledger, lanes["cus_wrong"], EntryKind.REVERSAL, ANEW)
    withdraw(ledger, lanes["cus_waived"], EntryKind.WAIVER)
    withdraw(ledger, lanes["cus_invoiced"], EntryKind.INVOICED)
    gather_all(ledger)
    bill(ledger, "sent 1", 9_000_000, customer="cus_sent_1")
    bill(ledger, "sent 2", 9_000_000, customer="cus_sent_2")
    gather_all(ledger)
    send(ledger, ACCEPTED, UNKNOWN, REJECTED, ACCEPTED, at_us=later(60))
    bill(ledger, "open", 1_234_567)
    return ledger


def tamper(url, script):
    """Run statements on a ledger that no trigger stops."""
    with without_triggers(url) as edit:
        for statement in script.split(";"):
            edit(statement)
