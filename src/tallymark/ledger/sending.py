"""Who may send a meter event, and what the answer makes of it: claim and settle, in the ledger's transactions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from ..core.clock import SECOND_US
from ..core.ids import idempotency_key, sent_identifier
from ..core.periods import Lateness
from ..core.states import FIRST_PROOF_US, STATE_AFTER, Answer, Claim, MeterOutcome, State, retry_delay_us
from ..core.windows import (
    CLOCK_TOLERANCE_US,
    STRIPE_AGE_MARGIN_US,
    STRIPE_AGE_MAX_US,
    STRIPE_PROMISE_MARGIN_US,
    STRIPE_PROMISE_US,
)
from . import owner
from .database import Database, Row
from .meter_windows import issue_txn, meter_windows_txn, total_txn

CLAIM_SECONDS = 60
# A process that was killed may have sent a request a moment before, which the server is still at work on.
LAST_CALL_SECONDS = 3


Lane = tuple[str, str]
"""A customer and a meter."""

FIRST_LANE: Lane = ("", "")
"""Before all of them."""


def claim_txn(db: Database, now_us: int, limit: int, lateness: Lateness, after: Lane) -> list[Claim]:
    """Take up to `limit` meter events for sending, one of each (customer, meter): of those after `after`, in turn.

    What it costs does not grow with how much is pending.
    """
    # First free, then doubt: a claim abandoned for a day was perhaps sent, and Stripe has forgotten it.
    free_abandoned_txn(db, now_us)
    ahead_us = now_us + CLOCK_TOLERANCE_US
    db.write("doubt", promise_ended_us=now_us - STRIPE_PROMISE_US + STRIPE_PROMISE_MARGIN_US, ahead_us=ahead_us)
    _stop_late_txn(db, now_us, lateness)
    moment = {"now_us": now_us, "ahead_us": ahead_us, "final_us": lateness.final_us(now_us)}
    windows = meter_windows_txn(db)
    claimable = islice(_claimable_txn(db, moment, windows, after), limit)
    return [_claim_one_txn(db, row, now_us, windows.get(row["meter"])) for row in claimable]


def _claimable_txn(db: Database, moment: Mapping[str, int], windows: Collection[str], after: Lane) -> Iterator[Row]:
    """The oldest of each (customer, meter) that has no call in flight, those after `after` first; the late are held."""
    yield from _claimable_after_txn(db, moment, windows, after)
    for row in _claimable_after_txn(db, moment, windows, FIRST_LANE):
        if _lane_of(row) > after:
            return
        yield row


def _claimable_after_txn(
    db: Database, moment: Mapping[str, int], windows: Collection[str], after: Lane
) -> Iterator[Row]:
    while row := db.row("next_claimable", **moment, after_customer_id=after[0], after_meter=after[1]):
        customer_id, meter = lane = _lane_of(row)
        if row["in_flight"]:
            after = lane
        elif row["is_late"]:
            db.write("hold_late", final_us=moment["final_us"], customer_id=customer_id, meter=meter)
        else:
            if (found := _unanswered_first_txn(db, row, moment) if meter in windows else row) is not None:
                yield found
            after = lane


def _unanswered_first_txn(db: Database, row: Row, moment: Mapping[str, int]) -> Row | None:
    """What may be sent to a meter that is sent running totals: what has no answer, as long as there is such a one.

    After a newer total, its own would be the last one that Stripe receives, or be dropped as a duplicate. None: it is
    not due yet.
    """
    waiting = db.row("unanswered_of", **moment, customer_id=row["customer_id"], meter=row["meter"])
    if waiting is None:
        return row
    return waiting if waiting["is_due"] else None


def _lane_of(row: Row) -> Lane:
    return row["customer_id"], row["meter"]


def _stop_late_txn(db: Database, now_us: int, lateness: Lateness) -> None:
    """Hold what is too old for Stripe by now; if it may have arrived, or is late for its invoice, that is the doubt."""
    oldest_s = -(-(now_us - STRIPE_AGE_MAX_US + STRIPE_AGE_MARGIN_US) // SECOND_US)
    db.write("doubt_late", final_us=lateness.final_us(now_us), oldest_s=oldest_s)
    db.write("hold_too_old", oldest_s=oldest_s)


def _claim_one_txn(db: Database, row: Row, now_us: int, window_s: int | None) -> Claim:
    own_id, attempt = row["meter_event_id"], row["attempt"] + 1
    total = total_txn(db, row, window_s)
    reissue = issue_txn(db, row, total)
    identifier = sent_identifier(own_id, reissue)
    key = idempotency_key(identifier, attempt)
    until_us = now_us + CLAIM_SECONDS * SECOND_US
    claimed = {"claimed_by": owner.this_process(), "claimed_until_us": until_us}
    db.write("claim", meter_event_id=own_id, reissue=reissue, **claimed)
    put_attempt_txn(db, own_id, attempt, key, now_us, total.credits if total else None)
    return Claim(
        own_id,
        identifier,
        row["customer_id"],
        row["meter"],
        row["timestamp_s"],
        row["credits"],
        row["payload"],
        attempt,
        key,
        row["unanswered_since_us"],
        now_us,
        total,
    )


def put_attempt_txn(
    db: Database, meter_event_id: str, attempt: int, idempotency_key: str, now_us: int, window_total: int | None = None
) -> None:
    """Note inside the caller's transaction that a request is about to leave."""
    values = {"meter_event_id": meter_event_id, "attempt": attempt, "idempotency_key": idempotency_key}
    db.write("put_attempt", **values, now_us=now_us, window_total=window_total)


def free_abandoned_txn(db: Database, now_us: int) -> None:
    """Offer again, as unanswered, what was claimed by somebody who is gone."""
    for row in db.rows("claims_held"):
        if is_left_txn(db, row, now_us):
            sent = db.row("attempt_sent_at", meter_event_id=row["meter_event_id"], attempt=row["attempt"])
            db.write(
                "abandon",
                meter_event_id=row["meter_event_id"],
                attempt=row["attempt"],
                sent_at_us=sent["sent_at_us"] if sent else now_us,
            )


def is_left_txn(db: Database, row: Row, now_us: int) -> bool:
    """Whether nobody waits for an answer any more. A claim whose owner is dead ends soon: two calls must not meet."""
    if has_ended(row["claimed_until_us"], now_us):
        return True
    if not owner.is_dead(row["claimed_by"]):
        return False
    until_us = min(row["claimed_until_us"], now_us + LAST_CALL_SECONDS * SECOND_US)
    db.write("shorten_claim", meter_event_id=row["meter_event_id"], attempt=row["attempt"], until_us=until_us)
    return has_ended(until_us, now_us)


def has_ended(until_us: int, now_us: int) -> bool:
    """Whether a claim's time is over. One that lasts longer than any was made by a clock that was wrong."""
    return now_us >= until_us or until_us > now_us + CLAIM_SECONDS * SECOND_US + CLOCK_TOLERANCE_US


def settle_txn(db: Database, claim: Claim, outcome: MeterOutcome, now_us: int) -> None:
    """Store the meter's answer to one claim, fenced by its attempt, and owe marks for what was accepted."""
    unanswered = claim.unanswered_since_us
    if outcome.answer in (Answer.UNKNOWN, Answer.STREAMED) and unanswered is None:
        unanswered = claim.sent_at_us
    state = STATE_AFTER[outcome.answer]
    db.write(
        "settle_attempt",
        meter_event_id=claim.meter_event_id,
        attempt=claim.attempt,
        now_us=now_us,
        outcome=outcome.answer,
        answer=outcome.detail,
    )
    fenced = db.row(
        "settle",
        meter_event_id=claim.meter_event_id,
        attempt=claim.attempt,
        state=state,
        answer=outcome.detail,
        now_us=now_us,
        next_attempt_at_us=now_us + _next_look_us(claim, outcome),
        unanswered_since_us=None if state is State.ACCEPTED else unanswered,
    )
    if fenced and state is State.ACCEPTED:
        db.write("owe_marks", meter_event_id=claim.meter_event_id)


def _next_look_us(claim: Claim, outcome: MeterOutcome) -> int:
    """How long until it may be offered again, or Stripe's sums may be asked about it."""
    if outcome.answer is Answer.STREAMED:
        return FIRST_PROOF_US
    return retry_delay_us(claim.attempt, outcome.retry_after_seconds)
