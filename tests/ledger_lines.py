"""A ledger with lines in it, for tests of the ledger alone: no rating, no server."""

from dataclasses import replace

from builders import CREDIT_MICROS, NOW_US, read_trace
from tallymark.core.clock import SECOND_US
from tallymark.core.decisions import PROCESSED, Decision, MarkState, NewEntry, Outcome
from tallymark.core.states import Answer, MeterOutcome
from tallymark.core.types import Customer
from tallymark.core.windows import bucket_of
from tallymark.ledger.rows import RunRef

RUN = RunRef("run-1", NOW_US, "settings-1")
ACCEPTED = MeterOutcome(Answer.ACCEPTED, "taken")
UNKNOWN = MeterOutcome(Answer.UNKNOWN, "no answer")
REJECTED = MeterOutcome(Answer.REJECTED, "400: no such customer")
THROTTLED = MeterOutcome(Answer.THROTTLED, "429", 2.0)


def entry(trace, micros, *, customer="cus_1", meter="credits", kind="charge", bucket="hour"):
    """A line for a trace."""
    start_us, end_us = bucket_of(trace.timestamp_us, bucket)
    key = f"{trace.project_id}/{trace.trace_id}" if bucket == "trace" else ""
    return NewEntry(meter, kind, micros, customer, trace.timestamp_us, start_us, end_us, key, "card", '{"parts":[]}')


def charge(trace, *entries):
    """The decision that a trace is worth these lines."""
    amount = sum(one.amount_micros for one in entries)
    customer = Customer(entries[0].customer_id, "metadata")
    return Decision(
        trace,
        PROCESSED,
        Outcome.BILLED,
        MarkState.WAITING,
        customer=customer,
        worth_micros=amount,
        billed_micros=amount,
        entries=entries,
    )


def bill(ledger, trace_id, micros=2_500_000, *, minutes_ago=60, run=RUN, **place):
    """Record one charged trace; returns the trace."""
    trace = read_trace(trace_id, minutes_ago=minutes_ago)
    ledger.record(run, [trace], lambda one, _: charge(one, entry(one, micros, **place)))
    return trace


def adjust(ledger, trace_id, micros, *, minutes_ago=60, **place):
    """Add a line to a trace that was billed before."""
    trace = read_trace(trace_id, minutes_ago=minutes_ago)
    line = entry(trace, micros, kind="adjustment", **place)
    ledger.record(RUN, [trace], lambda one, _: charge(one, line))


def gather_all(ledger, run=RUN):
    """Fix meter events until nothing is open."""
    while ledger.gather(run, 100):
        pass


def claim_one(ledger, now_us=NOW_US):
    """Claim, and expect exactly one."""
    (claim,) = ledger.claim(now_us, 10)
    return claim


def later(seconds):
    """A moment after now, in microseconds."""
    return NOW_US + int(seconds * SECOND_US)


def with_run(run_id):
    """Another run at the same moment."""
    return replace(RUN, run_id=run_id)


__all__ = [
    "ACCEPTED",
    "CREDIT_MICROS",
    "NOW_US",
    "REJECTED",
    "RUN",
    "THROTTLED",
    "UNKNOWN",
    "adjust",
    "bill",
    "charge",
    "claim_one",
    "entry",
    "gather_all",
    "later",
    "with_run",
]
