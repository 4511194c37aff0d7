"""Asking Stripe to take an accepted meter event back, because its trace came to less: claim and settle.

It is one call of the (customer, meter), as a send is. What was taken back is withdrawn and entered anew in its bucket,
where the lower usage waits; gathering makes the right meter event of both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..core.clock import SECOND_US
from ..core.ids import idempotency_key, sent_identifier
from ..core.periods import Lateness
from ..core.states import Answer, CancelClaim, MeterOutcome, State, after_cancel
from ..core.windows import STRIPE_PROMISE_MARGIN_US, STRIPE_PROMISE_US
from ..failpoints import Step
from . import owner
from .corrections import Decided, enter_anew_txn
from .database import Database, Row
from .ledger import Ledger
from .rows import RunRef
from .sending import CLAIM_SECONDS, is_left_txn, put_attempt_txn

ASKED = "asked to take it back: "


def claim_cancels(ledger: Ledger, now_us: int, limit: int, lateness: Lateness) -> list[CancelClaim]:
    """Take those for which an answer is missing, and up to `limit` other meter events whose traces came to less."""
    with ledger.transaction(Step.CLAIM_CANCEL) as db:
        left = [row for row in db.rows("cancels_held") if row["claimed_by"] is None or is_left_txn(db, row, now_us)]
        fresh = db.rows(
            "cancellable",
            received_after_us=now_us - STRIPE_PROMISE_US + STRIPE_PROMISE_MARGIN_US,
            final_us=lateness.final_us(now_us),
            limit=limit,
        )
        again = [_claim_txn(db, row, now_us, again=True) for row in left]
        return [*again, *(_claim_txn(db, row, now_us, again=False) for row in fresh)]


def _claim_txn(db: Database, row: Row, now_us: int, *, again: bool) -> CancelClaim:
    own_id, attempt = row["meter_event_id"], row["attempt"] + 1
    identifier = sent_identifier(own_id, row["reissue"])
    key = idempotency_key(identifier, attempt)
    until_us = now_us + CLAIM_SECONDS * SECOND_US
    db.write(
        "claim_cancel",
        meter_event_id=own_id,
        claimed_by=owner.this_process(),
        claimed_until_us=until_us,
        now_us=now_us,
    )
    put_attempt_txn(db, own_id, attempt, key, now_us)
    return CancelClaim(own_id, identifier, row["meter"], attempt, key, again)


def settle_cancels(
    ledger: Ledger,
    run: RunRef,
    settled: Sequence[tuple[CancelClaim, MeterOutcome]],
    now_us: int,
    last: Collection[str],
) -> None:
    """Store the answers; of the meter events named in `last`, nobody will ask again."""
    with ledger.transaction(Step.SETTLE_CANCEL) as db:
        for claim, outcome in settled:
            db.write(
                "settle_attempt",
                meter_event_id=claim.meter_event_id,
                attempt=claim.attempt,
                now_us=now_us,
                outcome=outcome.answer,
                answer=f"{ASKED}{outcome.detail}",
            )
            _settle_txn(db, run, claim, outcome, now_us, claim.meter_event_id in last)


def _settle_txn(db: Database, run: RunRef, claim: CancelClaim, outcome: MeterOutcome, now_us: int, last: bool) -> None:
    event = db.row("meter_event", meter_event_id=claim.meter_event_id)
    if event["state"] != State.CANCELLING or event["attempt"] != claim.attempt:
        return
    if outcome.answer is Answer.ACCEPTED:
        _withdraw_txn(db, run, event, now_us)
        return
    state, reason = after_cancel(outcome.answer, again=claim.again, last=last)
    db.write(
        "settle_cancel",
        meter_event_id=claim.meter_event_id,
        attempt=claim.attempt,
        state=state,
        reason=reason,
        answer=f"{ASKED}{outcome.detail}",
        unanswered_since_us=now_us if state in (State.CANCELLING, State.IN_DOUBT) else None,
    )


def _withdraw_txn(db: Database, run: RunRef, event: Row, now_us: int) -> None:
    meter_event_id, amount_micros = event["meter_event_id"], event["entries_micros"]
    why = "its trace came to less within a day"
    decided = Decided("tallymark", "cancel", "meter_event", meter_event_id, amount_micros, why)
    enter_anew_txn(db, run, now_us, decided)
