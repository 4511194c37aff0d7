"""How open entries become meter events, and who may send one: gather, claim, settle, in the ledger's transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..core.clock import SECOND_US
from ..core.credits import split_whole_credits
from ..core.ids import idempotency_key, meter_event_id, sent_identifier
from ..core.states import STATE_AFTER, Answer, Claim, MeterOutcome, State, retry_delay_us
from ..core.windows import STRIPE_PROMISE_MARGIN_US, STRIPE_PROMISE_US
from . import owner
from .database import Database, Row
from .rows import RunRef

CLAIM_SECONDS = 60
_encode = msgspec.json.Encoder().encode
PLACE = ("customer_id", "meter", "bucket_start_us", "bucket_end_us", "bucket_key")
"""What makes a bucket."""


def gather_txn(db: Database, run: RunRef, ledger_id: str, limit: int) -> int:
    """Fix meter events for up to `limit` open buckets: value, identifier, timestamp, payload. How many buckets."""
    buckets = db.rows("open_buckets", limit=limit)
    for bucket in buckets:
        _fix_txn(db, run, ledger_id, bucket)
    return len(buckets)


def _fix_txn(db: Database, run: RunRef, ledger_id: str, bucket: Row) -> None:
    place = {name: bucket[name] for name in PLACE}
    lane = {"customer_id": bucket["customer_id"], "meter": bucket["meter"]}
    carry_row = db.row("carry_of", **lane)
    carry_before = carry_row["amount_micros"] if carry_row else 0
    credits, carry_after = split_whole_credits(carry_before + bucket["entries_micros"])
    revision = db.row("next_revision", **place)["revision"]
    identifier = meter_event_id(ledger_id, **place, revision=revision)
    db.write(
        "put_meter_event",
        **place,
        meter_event_id=identifier,
        revision=revision,
        # The latest usage in the bucket: inside the bucket, never ahead of now, and the last to grow too old.
        timestamp_s=bucket["timestamp_us"] // SECOND_US,
        credits=credits,
        entries_micros=bucket["entries_micros"],
        carry_before_micros=carry_before,
        carry_after_micros=carry_after,
        payload=_payload_txn(db, place),
        state=State.PENDING if credits else State.CARRIED,
        now_us=run.now_us,
        run_id=run.run_id,
    )
    db.write("cover_entries", **place, meter_event_id=identifier)
    db.write("put_carry", **lane, amount_micros=carry_after)
    if not credits:
        db.write("owe_marks", meter_event_id=identifier)


def _payload_txn(db: Database, place: Mapping[str, Any]) -> str:
    """What a meter event says besides customer and value: in trace buckets, the trace and its components."""
    if not place["bucket_key"]:
        return "{}"
    row = db.row("trace_of_bucket", **place)
    return _encode(_trace_payload(row)).decode() if row else "{}"


def _trace_payload(row: Row) -> dict[str, str]:
    """Payload values are text of at most 100 characters (facts/stripe.md section 1); longer ids are left out."""
    parts = msgspec.json.decode(row["components"]).get("parts", [])
    payload = {"trace_id": row["trace_id"], "user_id": row["user_id"] or ""}
    payload |= {f"{part['name']}_credits": part["credits"] for part in parts}
    return {name: value for name, value in payload.items() if 0 < len(value) <= 100}


def claim_txn(db: Database, now_us: int, limit: int) -> list[Claim]:
    """Take up to `limit` meter events for sending, one of each (customer, meter)."""
    # First free, then doubt: a claim abandoned for a day was perhaps sent, and Stripe has forgotten it.
    _free_abandoned_txn(db, now_us)
    db.write("doubt", promise_ended_us=now_us - STRIPE_PROMISE_US + STRIPE_PROMISE_MARGIN_US)
    return [_claim_one_txn(db, row, now_us) for row in db.rows("claimable", now_us=now_us, limit=limit)]


def _claim_one_txn(db: Database, row: Row, now_us: int) -> Claim:
    own_id, attempt = row["meter_event_id"], row["attempt"] + 1
    identifier = sent_identifier(own_id, row["reissue"])
    key = idempotency_key(identifier, attempt)
    until_us = now_us + CLAIM_SECONDS * SECOND_US
    db.write("claim", meter_event_id=own_id, claimed_by=owner.this_process(), claimed_until_us=until_us)
    db.write("put_attempt", meter_event_id=own_id, attempt=attempt, idempotency_key=key, now_us=now_us)
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
    )


def _free_abandoned_txn(db: Database, now_us: int) -> None:
    for row in db.rows("claims_held"):
        if now_us >= row["claimed_until_us"] or owner.is_dead(row["claimed_by"]):
            sent = db.row("attempt_sent_at", meter_event_id=row["meter_event_id"], attempt=row["attempt"])
            db.write(
                "abandon",
                meter_event_id=row["meter_event_id"],
                attempt=row["attempt"],
                sent_at_us=sent["sent_at_us"] if sent else now_us,
            )


def settle_txn(db: Database, claim: Claim, outcome: MeterOutcome, now_us: int) -> None:
    """Store the meter's answer to one claim, fenced by its attempt, and owe marks for what was accepted."""
    unanswered = claim.unanswered_since_us
    if outcome.answer is Answer.UNKNOWN and unanswered is None:
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
        next_attempt_at_us=now_us + retry_delay_us(claim.attempt, outcome.retry_after_seconds),
        unanswered_since_us=None if state is State.ACCEPTED else unanswered,
    )
    if fenced and state is State.ACCEPTED:
        db.write("owe_marks", meter_event_id=claim.meter_event_id)
