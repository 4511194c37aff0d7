"""Identifiers made from content, so that a repeated step makes the same one."""

from __future__ import annotations

import hashlib
import re
import uuid

_SENT = re.compile(r"([^.:]+)(?:\.([0-9]{1,9}))?(?::[0-9]{1,9})?")
_BATCH = "tms-"
_SCORE_NAMESPACE = uuid.UUID("6e0f4a52-7f0d-5b1c-9f6e-2d0a7d8f4c11")


def digest(text: str, length: int = 16) -> str:
    """The first hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def meter_event_id(
    ledger_id: str,
    customer_id: str,
    meter: str,
    bucket_start_us: int,
    bucket_end_us: int,
    bucket_key: str,
    revision: int,
) -> str:
    """The identifier that Stripe gets: at most 100 characters (facts/stripe.md section 1), the same on every retry.

    It holds the ledger's own id: two ledgers never take each other's meter events for their own.
    """
    content = digest(f"{customer_id}\x00{meter}\x00{bucket_key}\x00{bucket_end_us}", 24)
    return f"tm-{ledger_id}-{bucket_start_us // 1_000_000}-{content}-{revision}"


def ledger_id_in(identifier: str) -> str:
    """The id of the ledger that made an identifier; empty if none did."""
    prefix, _, rest = identifier.partition("-")
    return rest.partition("-")[0] if prefix == "tm" else ""


def sent_identifier(meter_event_id: str, reissue: int) -> str:
    """The identifier of the n-th issue of a meter event; 0 is the first.

    Whether Stripe frees an identifier that failed after acceptance is not documented (facts/stripe.md section 1): the
    same one might be taken for a duplicate and never be counted.
    """
    return f"{meter_event_id}.{reissue}" if reissue else meter_event_id


def idempotency_key(identifier: str, attempt: int) -> str:
    """A fresh HTTP idempotency key for every attempt, with the identifier in front.

    A stored 5xx would be replayed under the same key (facts/stripe.md section 6); the identifier is what dedupes.
    """
    return f"{identifier}:{attempt}"


def batch_key(first_key: str, count: int) -> str:
    """The HTTP idempotency key of a call with several meter events: of no other call, and of no meter event."""
    return f"{_BATCH}{first_key}/{count}"


def is_of_batch(sent: str) -> bool:
    """Whether Stripe names a call with several meter events, and so none of them."""
    return sent.startswith(_BATCH)


def issue_of(sent: str) -> tuple[str, int]:
    """The meter event's id and the number of the issue, from an identifier or an idempotency key that Stripe got.

    What neither function above has made names no meter event of ours, and is its own id.
    """
    found = _SENT.fullmatch(sent)
    return (found[1], int(found[2] or 0)) if found else (sent, 0)


def link(previous_digest: str, content: bytes) -> str:
    """The digest of one line in a chain: SHA-256 over the digest of the line before and the line's own content."""
    return hashlib.sha256(previous_digest.encode() + b"\n" + content).hexdigest()


def score_id(project_id: str, trace_id: str) -> str:
    """The id of the score that marks a trace: always the same, so that writing it twice leaves one."""
    return str(uuid.uuid5(_SCORE_NAMESPACE, f"{project_id}/{trace_id}"))
