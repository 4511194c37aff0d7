"""The places where a crash test may stop a process: before and after every commit, and before and after every request.

Nothing in tallymark arms one; a test does, in the process that it is going to lose (tests/crash). Until then `reach` is
one comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """What a process does that others can see: each writing transaction of the ledger, and each kind of request."""

    MIGRATE = "migrate"
    PUT_FACT = "put fact"
    START_RUN = "start run"
    FINISH_RUN = "finish run"
    PUT_COVERAGE = "put coverage"
    FORGET_COVERAGE = "forget coverage"
    STAGE = "stage"
    DECIDE_STAGED = "decide staged"
    PUT_SCORE_MARKS = "put score marks"
    OWE_LOST_MARKS = "owe lost marks"
    RECORD = "record"
    GATHER = "gather"
    CLAIM = "claim"
    SETTLE = "settle"
    CHANGE_METER_API = "change meter api"
    REOPEN_REJECTED = "reopen rejected"
    SETTLE_DOUBTS = "settle doubts"
    PUT_NOTIFICATIONS = "put notifications"
    APPLY_REPORT = "apply report"
    CLOSE_REPORTS = "close reports"
    REISSUE = "reissue"
    PUT_PERIODS = "put periods"
    CLAIM_CANCEL = "claim cancel"
    SETTLE_CANCEL = "settle cancel"
    DECIDE_HELD = "decide held"
    BEGIN_INVOICING = "begin invoicing"
    FINISH_INVOICING = "finish invoicing"
    PUT_CUSTOMER_RULE = "put customer rule"
    PUT_DELETED = "put deleted"
    SETTLE_MARKS = "settle marks"
    SUM_USAGE = "sum usage"
    TAG = "tag"
    PUT_JOB = "put job"
    PUT_ALERTS = "put alerts"
    PUT_REQUEST = "put request"
    PUT_PLAN = "put plan"
    END_PART = "end part"
    MOVE_PLAN = "move plan"
    RESERVE = "reserve"
    BACK_UP = "back up"
    RESTORE = "restore"
    LANGFUSE_READ = "langfuse read"
    LANGFUSE_WRITE = "langfuse write"
    ALERT_SEND = "alert send"
    STRIPE_SEND = "stripe send"
    STRIPE_SESSION = "stripe session"
    STRIPE_STREAM = "stripe stream"
    STRIPE_CANCEL = "stripe cancel"
    STRIPE_INVOICE_ITEM = "stripe invoice item"
    STRIPE_READ = "stripe read"


class Side(StrEnum):
    """On which side of a step. After a request means whatever was answered: an error, or nothing at all."""

    BEFORE = "before"
    AFTER = "after"


_stop: Callable[[Step, Side], None] | None = None


def reach(step: Step, side: Side) -> None:
    """Say that a step is about to happen, or has happened."""
    if _stop is not None:
        _stop(step, side)


def arm(stop: Callable[[Step, Side], None] | None) -> None:
    """Call `stop` wherever a step is reached, from now on; None calls nothing any more."""
    global _stop
    _stop = stop
