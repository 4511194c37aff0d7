"""Meter events whose answers are missing, settled by what Stripe says that their windows are worth.

Those in doubt are, those that were streamed, and those that were accepted and that an open report may mean without
naming them (ledger/reports.py). What the numbers leave open stays as it is, with the evidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ..core.clock import SECOND_US, format_time
from ..core.credits import MICROS_PER_CREDIT
from ..core.doubt import (
    ASK_AGAIN_US,
    COUNTED,
    Judgement,
    Member,
    Value,
    Verdict,
    Window,
    judge,
    may_be_proved,
    prove,
    quiet_from_us,
)
from ..core.states import CANCELLING, UNSHOWN, State, proof_delay_us
from ..core.windows import CLOCK_TOLERANCE_US, STRIPE_PROMISE_MARGIN_US, STRIPE_PROMISE_US
from ..failpoints import Step
from .corrections import Decided, enter_anew_txn, put_decision_txn
from .database import Database, Row
from .ledger import Ledger
from .meter_windows import window_place
from .reports import OpenReport, has_unfetched, open_reports, suspects, take_back_txn, take_unnamed_txn
from .rows import RunRef

QUESTIONS_MAX = 1000
# A window may hold thousands of meter events, and each that is settled keeps its evidence.
EVIDENCE_MEMBERS_MAX = 20
Place = tuple[str, str, int]
"""Customer, meter and timestamp (unix seconds) of a meter event."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A window, and what Stripe said of it at a moment. `last`: no smaller window is asked about after this one."""

    window: Window
    value: Value
    at_us: int
    last: bool


@dataclass(slots=True)
class Settled:
    """How many meter events were found counted, to be billed anew, or reported; where lie those that are left open."""

    accepted: int = 0
    not_sent: int = 0
    taken_back: int = 0
    left: list[Place] = field(default_factory=list)

    def __add__(self, other: Settled) -> Settled:
        return Settled(
            self.accepted + other.accepted, self.not_sent + other.not_sent, self.taken_back + other.taken_back
        )


def questions(ledger: Ledger, now_us: int, *, at_once: bool = False) -> list[Place]:
    """Where meter events lie that are in doubt or under suspicion, and whose window may be asked about now.

    `at_once`: also those that were asked about less than ASK_AGAIN_US ago.
    """
    due_us = now_us + ASK_AGAIN_US if at_once else now_us
    rows = list(ledger.query("in_doubt", now_us=due_us, limit=QUESTIONS_MAX))
    rows += [row for row in suspects(ledger, now_us) if _may_be_asked(row, due_us)]
    return [(row["customer_id"], row["meter"], row["timestamp_s"]) for row in rows]


def _may_be_asked(row: Row, due_us: int) -> bool:
    return bool(row["state"] == State.ACCEPTED and row["next_attempt_at_us"] <= due_us)


def streamed(ledger: Ledger, now_us: int, limit: int) -> list[Place]:
    """The hours in which meter events lie that were streamed and may be asked about now: of each its first second."""
    rows = ledger.query("streamed", now_us=now_us, limit=limit)
    return [(row["customer_id"], row["meter"], row["hour_s"]) for row in rows]


def next_proof_at_us(ledger: Ledger) -> int | None:
    """When something that was streamed may be asked about next; None if nothing is."""
    found: int | None = next(ledger.query("next_proof"))["next_proof_at_us"]
    return found


def doubt_streamed(ledger: Ledger, now_us: int) -> None:
    """Put in doubt what was streamed so long ago that its sums should have shown it."""
    with ledger.transaction(Step.SETTLE_DOUBTS) as db:
        promise_ended_us = now_us - STRIPE_PROMISE_US + STRIPE_PROMISE_MARGIN_US
        db.write("doubt_streamed", promise_ended_us=promise_ended_us, ahead_us=now_us + CLOCK_TOLERANCE_US)


def tells(ledger: Ledger, window: Window, now_us: int) -> bool:
    """Whether what Stripe says of a window may settle something: all in it is old enough to show there, or what is
    younger can at most be proved."""
    reports = open_reports(ledger, now_us)
    members = [_member(row, reports) for row in ledger.query("in_window", **_place(window))]
    return quiet_from_us(members) <= now_us or may_be_proved(members, now_us)


def settle_window(ledger: Ledger, run: RunRef, asked: Asked, settled: Settled) -> None:
    """Settle what the value of a window decides, and count it; nothing if something happened in it meanwhile."""
    with ledger.transaction(Step.SETTLE_DOUBTS) as db:
        reports = open_reports(db, asked.at_us)
        rows = {row["meter_event_id"]: row for row in db.rows("in_window", **_place(asked.window))}
        members = {name: _member(row, reports) for name, row in rows.items()}
        if quiet_from_us(members.values()) <= asked.at_us:
            judgement = judge(asked.value, list(members.values()))
        elif may_be_proved(members.values(), asked.at_us):
            # To ask by the minute is for what the hour leaves open in the end.
            asked, judgement = replace(asked, last=True), prove(asked.value, list(members.values()))
        else:
            return
        evidence = _evidence(asked, judgement)
        for name, verdict in judgement.verdicts.items():
            if members[name].is_asked:
                why = f"{verdict}: {judgement.why}"
                amount_micros = rows[name]["credits"] * MICROS_PER_CREDIT
                decided = Decided("tallymark", "settle", "meter_event", name, amount_micros, why, evidence)
                _apply_txn(db, run, asked, rows[name], verdict, decided, settled)


def _apply_txn(
    db: Database, run: RunRef, asked: Asked, row: Row, verdict: Verdict, decided: Decided, settled: Settled
) -> None:
    in_doubt = row["state"] in UNSHOWN
    if verdict is Verdict.COUNTED and in_doubt:
        expected = row["state"] == State.STREAMED
        _settle_doubt_txn(db, asked.at_us, State.ACCEPTED, COUNTED, decided, expected=expected)
        db.write("owe_marks", meter_event_id=decided.subject)
        settled.accepted += 1
    elif verdict is Verdict.COUNTED:
        db.write("confirm", meter_event_id=decided.subject)
    elif verdict is Verdict.NOT_COUNTED and in_doubt and row["reason"] == CANCELLING:
        # The question was whether Stripe took it back: its identifier is used up.
        entries_micros = db.row("meter_event", meter_event_id=decided.subject)["entries_micros"]
        enter_anew_txn(db, run, asked.at_us, replace(decided, verb="cancel", amount_micros=entries_micros))
        settled.not_sent += 1
    elif verdict is Verdict.NOT_COUNTED and not in_doubt and has_unfetched(db, asked.at_us):
        # A report that is still to be fetched may name it: then it must use up no other one.
        _leave_open_txn(db, asked.at_us, row, decided)
    elif verdict is Verdict.NOT_COUNTED and (report := _report_on(db, asked.at_us, row)):
        settled.taken_back += _take_back_txn(db, report, decided, asked.at_us, in_doubt=in_doubt)
    elif verdict is Verdict.NOT_COUNTED and in_doubt:
        _settle_doubt_txn(db, asked.at_us, State.PENDING, "", decided)
        settled.not_sent += 1
    elif asked.last:
        _leave_open_txn(db, asked.at_us, row, decided)
    else:
        settled.left.append((asked.window.customer_id, asked.window.meter, row["timestamp_s"]))


def _take_back_txn(db: Database, report: OpenReport, decided: Decided, now_us: int, *, in_doubt: bool) -> bool:
    """Take back what a report may mean. Whether one in doubt ever arrived nobody knows: that report may mean others."""
    if in_doubt:
        return take_back_txn(db, report.reason, decided, now_us)
    return take_unnamed_txn(db, report, decided, now_us)


def _settle_doubt_txn(
    db: Database, now_us: int, state: State, reason: str, decided: Decided, *, expected: bool = False
) -> None:
    """`expected`: what was streamed and is found counted is no decision; its answer says what it rests on."""
    if not expected:
        put_decision_txn(db, now_us, decided)
    values = {"state": state, "reason": reason, "answer": decided.why, "now_us": now_us}
    db.write("settle_doubt", meter_event_id=decided.subject, **values)


def _leave_open_txn(db: Database, now_us: int, row: Row, decided: Decided) -> None:
    """The same evidence is kept once, however often it is found."""
    if row["state"] == State.IN_DOUBT and row["answer"] != decided.why:
        put_decision_txn(db, now_us, replace(decided, verb="ask"))
    is_streamed = row["state"] == State.STREAMED
    again_at_us = now_us + (proof_delay_us(now_us - row["last_sent_us"]) if is_streamed else ASK_AGAIN_US)
    db.write("leave_open", meter_event_id=decided.subject, again_at_us=again_at_us, answer=decided.why)


def _report_on(db: Database, now_us: int, row: Row) -> OpenReport | None:
    """The open report that may mean a meter event, if there is one: of several, that of the time of its last send.

    Another may be the only one that fits another meter event, and would be used up.
    """
    meant = [report for report in open_reports(db, now_us) if _is_meant(row, report)]
    return min(meant, key=lambda report: abs(report.stored.report.end_us - row["last_sent_us"]), default=None)


def _is_meant(row: Row, report: OpenReport) -> bool:
    if row["meter_event_id"] in report.stored.unsure:
        return True
    last_us = max(row["last_sent_us"], row["answered_at_us"] or 0)
    return report.stored.report.meter in ("", row["meter"]) and (
        row["first_sent_us"] <= report.to_us and last_us >= report.from_us
    )


def _member(row: Row, reports: Sequence[OpenReport]) -> Member:
    accepted = row["state"] == State.ACCEPTED and row["reason"] != COUNTED
    return Member(
        row["meter_event_id"],
        row["state"],
        row["credits"],
        max(row["last_sent_us"] or 0, row["answered_at_us"] or 0, row["reported_at_us"] or 0),
        unanswered=row["unanswered_since_us"] is not None,
        suspected=accepted and any(_is_meant(row, report) for report in reports),
        reported=row["reported_at_us"] is not None,
    )


def _place(window: Window) -> dict[str, Any]:
    """A window as parameters."""
    return {**window._asdict(), **window_place(window.start_s, window.end_s)}


def _evidence(asked: Asked, judgement: Judgement) -> str:
    window = asked.window
    unknown = itertools.islice(judgement.unknown.items(), EVIDENCE_MEMBERS_MAX)
    evidence = {
        "customer": window.customer_id,
        "meter": window.meter,
        "window": [format_time(window.start_s * SECOND_US), format_time(window.end_s * SECOND_US)],
        "asked_at": format_time(asked.at_us),
        "stripe": asked.value.said,
        "accepted": judgement.accepted,
        "unknown": [{"identifier": name, "credits": credits} for name, credits in unknown],
        "unknown_in_all": len(judgement.unknown),
    }
    return msgspec.json.encode(evidence).decode()
